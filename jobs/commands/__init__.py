"""The commands as they are typed: arguments, options and help. Each imports what it needs when it runs."""
