"""How unsure the teacher is: the entropy of its next-token distribution, at every token."""
