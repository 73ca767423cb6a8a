"""What is asked for, made definite, and its identity."""
