"""The reader: cache -> aligned batches -> objective -> student. It imports neither ray nor spacy and needs no teacher."""
