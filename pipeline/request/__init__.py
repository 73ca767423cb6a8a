"""A request, made definite, and its identity."""
