"""What runs on a worker. Knows nothing of Ray."""
