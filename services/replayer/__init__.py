"""Publishes the frames of a past day once more, under an environment name that nothing archives."""
