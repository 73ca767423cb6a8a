"""The front door: one command line, one module per command, ready-made configs."""
