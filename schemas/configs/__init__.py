"""What the commands may be asked for: one model per config, and how its YAML is read."""
