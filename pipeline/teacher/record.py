"""The record of a teacher before its weights are loaded: its sizes, its head and its input embeddings.

Builds the model on torch's meta device: no memory, a second or two for a model of many layers.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from pipeline.teacher.quantise import describe_way, require_way
from schemas.cache.teacher import EmbeddingRecord, HeadRecord, TeacherRecord
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError
from schemas.models.load import build_on_meta
from schemas.models.logits import LogitTransform, find_head
from schemas.models.positions import require_positions, steady_positions
from schemas.models.quantised import describe_quantisation, require_steady
from schemas.models.spread import at_hand
from schemas.models.weights import find_weights


def describe_teacher(config: TeacherConfig, folder: Path) -> TeacherRecord:
    """The record of the model in `folder`, which must hold config.json and weights.

    Raises ModelError: unreadable, unknown, of the wrong kind, with fewer positions than `max_tokens`, or quantised in a
    way for which a package is not here.
    """
    find_weights(folder)
    model = build_on_meta(folder, config.kind, config.trust_remote_code)
    model_config, text_config = model.config, model.config.get_text_config()
    if model_config.is_encoder_decoder:
        raise ModelError(f"{folder} is an encoder-decoder ({model_config.model_type}); a teacher is one or the other")
    quantisation = _quantisation(config, folder)
    _check_positions(config, model)
    weight = bias = None
    if config.kind == "causal":
        weight, bias = find_head(model)
        if weight.shape[1] != text_config.hidden_size:
            raise ModelError(
                f"{folder}: the final states are {weight.shape[1]} wide, the blocks' {text_config.hidden_size}; "
                "all layers need one width: choose another size of this model"
            )
    try:
        return TeacherRecord(
            # A snapshot's folder is named after a commit, the hub id says more.
            model=config.model if folder.parent.name == "snapshots" else folder.name,
            kind=config.kind,
            num_layers=text_config.num_hidden_layers,
            hidden_size=text_config.hidden_size,
            vocab_size=text_config.vocab_size if weight is None else weight.shape[0],
            max_tokens=config.max_tokens,
            heads=getattr(text_config, "num_attention_heads", None),
            head=None if weight is None else _head_record(config, text_config, bias is not None),
            embedding=_embedding_record(config, model) if config.keep_embeddings else None,
            quantisation=quantisation,
        )
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))} is {e['input']!r:.80}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{folder / 'config.json'} describes no model: {wrong}") from error


def _quantisation(config: TeacherConfig, folder: Path) -> str | None:
    saved = describe_quantisation(folder)
    if config.quantisation is None:
        require_steady(folder)
        return saved
    if saved is not None:
        raise ModelError(f"teacher.quantisation: {folder} is quantised already ({saved}); leave it out")
    require_way(config.quantisation)
    return describe_way(config.quantisation)


def _check_positions(config: TeacherConfig, model: Any) -> None:
    require_positions(model, config.max_tokens, "teacher.max_tokens", config.model)
    steady = steady_positions(model)
    if steady is not None and config.max_tokens > steady:
        raise ModelError(
            f"teacher.max_tokens is {config.max_tokens}, but beyond {steady} tokens {config.model} changes its "
            f"position encoding for a whole batch, so a sample's states would depend on its neighbours; set at most "
            f"{steady}"
        )


def find_embedding(model: Any) -> torch.Tensor:
    """The input embeddings [V, d], before any scale. Raises ModelError if they are not a table."""
    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise ModelError(f"{type(model).__name__} looks no tokens up in a table; set teacher.keep_embeddings to false")
    weight: torch.Tensor = at_hand(model, table, "weight")
    return weight


def _embedding_record(config: TeacherConfig, model: Any) -> EmbeddingRecord:
    rows, width = find_embedding(model).shape
    return EmbeddingRecord(dtype=config.dtype, rows=rows, width=width)


def _head_record(config: TeacherConfig, text_config: Any, bias: bool) -> HeadRecord:
    transform = LogitTransform.of(text_config)
    return HeadRecord(dtype=config.dtype, bias=bias, scale=transform.scale, softcap=transform.softcap)
