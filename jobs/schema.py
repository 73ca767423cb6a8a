"""`stillroom schema`: the JSON schemas of the configs and of the records in a cache."""

import json

from schemas.base import Strict
from schemas.errors import ConfigError
from schemas.extraction import ExtractionConfig
from schemas.generation import GenerationConfig
from schemas.manifest import CacheManifest
from schemas.shard import ShardRecord
from schemas.training import TrainingConfig

SCHEMAS: dict[str, type[Strict]] = {
    "extract": ExtractionConfig,
    "train": TrainingConfig,
    "generate": GenerationConfig,
    "cache": CacheManifest,
    "shard": ShardRecord,
}


def show_schema(which: str) -> None:
    """Print one schema as JSON. Raises ConfigError for an unknown name."""
    if which not in SCHEMAS:
        raise ConfigError(f"there is no schema {which!r}; choose one of {', '.join(SCHEMAS)}")
    print(json.dumps(SCHEMAS[which].model_json_schema(), indent=2))
