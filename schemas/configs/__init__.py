"""What the commands may be asked for: one model a config, and how its YAML is read."""
