"""Timing engines against each other: the schedule, the statistics, and what a timed engine has to offer."""
