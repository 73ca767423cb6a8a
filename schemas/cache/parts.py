"""A cache that was extended: what it held before, shard by shard as it was written then."""

from typing import Annotated

from pydantic import Field

from schemas.strict import Strict


class PartRecord(Strict):
    """What a cache was before it was extended: so many of its first samples, in so many of its first shards."""

    fingerprint: Annotated[str, Field(description="The cache's, then, and that of the shards that were new.")]
    samples: Annotated[int, Field(ge=1)]
    units: Annotated[int, Field(ge=1)]
