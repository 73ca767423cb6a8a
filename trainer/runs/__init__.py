"""A run from its config to its model folder: setting up, checkpoints, metrics, resuming."""
