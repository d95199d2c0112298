"""What Python programs and the command line have in common: from what a user gives to a run, and back to results."""
