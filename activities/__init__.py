"""What workflows have done: each file touches one thing; everything here may run twice and means the same."""
