"""Texts as records of files: one reader for corpora, held-out texts and scored pairs."""
