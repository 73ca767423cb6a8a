"""The storages that stillroom brings, one module each."""
