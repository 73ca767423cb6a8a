"""The contract: what lies on disk and what a config may say.

Pipeline (the writer) and trainer (the reader) share these modules and nothing else. Importing any of them loads
pydantic, numpy, pyarrow or zarr at most; torch only in the room `schemas.models`, which only those that run a model
import.
"""
