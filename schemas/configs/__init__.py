"""The settings of the commands: one model per config, and how its YAML is read."""
