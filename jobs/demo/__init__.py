"""The whole way on a toy, offline."""
