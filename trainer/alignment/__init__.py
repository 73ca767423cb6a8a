"""How a student's tokens are tied to a teacher's: spans, vocabulary, and how well it works."""
