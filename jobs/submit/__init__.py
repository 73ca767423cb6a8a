"""Submitting a command to a Ray cluster as a job, and following it there."""
