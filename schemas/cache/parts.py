"""A cache that was extended: what it held before, shard by shard as it was written then."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from schemas.strict import Strict


class PartRecord(Strict):
    """What a cache was before it was extended: so many of its first samples, in so many of its first shards."""

    fingerprint: Annotated[str, Field(description="The cache's, then, and that of the shards that were new.")]
    samples: Annotated[int, Field(ge=1)]
    units: Annotated[int, Field(ge=1)]
    arrays: Annotated[
        list[str] | None,
        Field(min_length=1, description="Paths of the arrays that it had then; null: those that the cache has now."),
    ] = None

    @model_serializer(mode="wrap")
    def _say(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What says nothing is left out: so caches that gained samples alone are written as ever."""
        found: dict[str, Any] = handler(self)
        return {name: value for name, value in found.items() if value is not None}
