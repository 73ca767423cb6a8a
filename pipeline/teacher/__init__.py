"""The teacher: loaded, checked, run; what is kept of it."""
