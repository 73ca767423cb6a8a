"""The cache on disk, whole: its format (README.md), how it is written, read and proven. No torch."""
