"""`stillroom schema`: the JSON schemas of the configs and of the records in a cache."""

import json

from schemas.cache.manifest import CacheManifest
from schemas.cache.shard import ShardRecord
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.generation import GenerationConfig
from schemas.configs.training import TrainingConfig
from schemas.errors import ConfigError
from schemas.shown import quoted
from schemas.strict import Strict

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
        raise ConfigError(f"unknown schema {quoted(which)}; available: {', '.join(SCHEMAS)}")
    print(json.dumps(SCHEMAS[which].model_json_schema(), indent=2))
