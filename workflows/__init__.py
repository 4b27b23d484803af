"""What is decided: each workflow is a verb in a file of its own, and reads like what you would tell an operator."""
