"""The losses. Each module holds pure functions with their formula, and one class that binds them to a config."""
