"""The annotators that are built in: one module per annotator, each with its ANNOTATOR."""
