"""The work of a worker. Knows nothing of Ray."""
