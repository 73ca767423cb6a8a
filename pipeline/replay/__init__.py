"""States of single samples, computed once more and alone, against those that a cache holds."""
