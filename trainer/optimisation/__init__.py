"""The training step: loop, optimiser, schedule, sharpness, random state."""
