"""Many trainings that differ in a few values: planned as a whole, run anywhere, told in one table."""
