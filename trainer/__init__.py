"""The reader: cache -> aligned batches -> objective -> student. No ray, no spacy, no teacher."""
