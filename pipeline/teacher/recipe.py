"""A sentence encoder's own recipe, against what is asked of it: its folder says how its embeddings are made."""

from pathlib import Path

from pipeline.teacher.wanted import WantedStates
from schemas.cache.kinds.pooled import PooledRecord
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError
from schemas.models.sentence_layout import require_pooling


def require_recipe(folder: Path, config: TeacherConfig, wanted: WantedStates) -> None:
    """Embeddings of the last layer must be those that sentence-transformers makes of the folder, up to their length.

    Length 1 is left to `states.pooled.normalise`, because scaling changes no direction. An inner layer has no recipe,
    and neither has a folder without modules.json. Raises ModelError naming the setting that differs, or the module that
    cannot be honoured.
    """
    pooled = wanted.records.get("pooled")
    if not isinstance(pooled, PooledRecord) or pooled.layer != wanted.teacher.num_layers:
        return
    otherwise = ", or pool another layer"
    layout = require_pooling(folder, config.max_tokens, pooled.pooling, "states.pooled.pooling", otherwise)
    if layout is not None and layout.max_tokens < config.max_tokens:
        raise ModelError(
            f"teacher.max_tokens is {config.max_tokens}, but {folder} cuts texts at {layout.max_tokens} tokens: set at "
            f"most {layout.max_tokens}"
        )
