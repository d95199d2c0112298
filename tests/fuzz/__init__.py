"""Damaged inputs of every kind, and what a command may make of them: success, or one sentence and exit code 2."""
