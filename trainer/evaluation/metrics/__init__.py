"""The metrics that stillroom brings, one module each."""
