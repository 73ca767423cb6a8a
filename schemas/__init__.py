"""The contract: what lies on disk and what a config may say.

Pipeline (the writer) and trainer (the reader) share these modules and nothing else. Importing any of them loads
pydantic, numpy, pyarrow or zarr at most. Torch is allowed only in the room `schemas.models`, which only code that runs
a model imports.
"""
