"""`stillroom schema`: the JSON schemas of the configs, of a conversation, and of the records in a cache."""

import json
from typing import Any

from jobs.presets import preset_names
from schemas.cache.manifest import CacheManifest
from schemas.cache.shard import ShardRecord
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.generation import GenerationConfig
from schemas.configs.importing import ImportConfig
from schemas.configs.sweep import SweepConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import PRESET
from schemas.conversations.record import ConversationRecord
from schemas.errors import ConfigError
from schemas.shown import quoted
from schemas.strict import Strict

SCHEMAS: dict[str, type[Strict]] = {
    "extract": ExtractionConfig,
    "import": ImportConfig,
    "train": TrainingConfig,
    "sweep": SweepConfig,
    "generate": GenerationConfig,
    "conversation": ConversationRecord,
    "cache": CacheManifest,
    "shard": ShardRecord,
}


def show_schema(which: str) -> None:
    """Print one schema as JSON. Raises ConfigError for an unknown name."""
    if which not in SCHEMAS:
        raise ConfigError(f"unknown schema {quoted(which)}; available: {', '.join(SCHEMAS)}")
    print(json.dumps(describe(which), indent=2))


def describe(which: str) -> dict[str, Any]:
    """The schema of a file as users write it: a training config may name a preset, which is laid beneath it before the
    rest is read."""
    schema = SCHEMAS[which].model_json_schema()
    if which == "train":
        said = "Constants of a paper, laid beneath this config's own values; `stillroom presets` lists them."
        preset = {"description": said, "enum": preset_names(), "title": "Preset", "type": "string"}
        schema["properties"] = {PRESET: preset} | schema["properties"]
    return schema
