"""The formats of record files that are built in: one module per format, each with its FORMAT."""
