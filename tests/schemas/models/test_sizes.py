"""A config.json whose sizes no model has ends in one message, before anything of that size is built."""

import json
import time
from pathlib import Path

import pytest
import torch

from schemas.errors import ModelError
from schemas.models.load import build_on_meta, load_model
from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_llama(folder, tiny_tokenizer(folder), layers=2)
    return folder


def changed(model: Path, folder: Path, **changes: object) -> Path:
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    stored = json.loads((model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stored, **changes}))
    return folder


@pytest.mark.parametrize("layers", [1_001, 10**6, 10**12])
def test_more_layers_than_any_model_has(model: Path, tmp_path: Path, layers: int) -> None:
    for changes in ({"num_hidden_layers": layers}, {"text_config": {"num_layers": layers}}):
        folder = changed(model, tmp_path, **changes)
        with pytest.raises(ModelError, match=rf"layers is {layers}; a model has up to 1,000 layers"):
            build_on_meta(folder, "causal", False)


@pytest.mark.parametrize("layers", [0, -1])
def test_no_layer_at_all(model: Path, tmp_path: Path, layers: int) -> None:
    """transformers builds a model of embeddings and head alone, and leaves out the rest without a word."""
    with pytest.raises(ModelError, match=f"says that the model has {layers} layers"):
        load_model(changed(model, tmp_path, num_hidden_layers=layers), "causal", torch.float32)


@pytest.mark.parametrize(
    "changes", [{"vocab_size": 200_000_000}, {"intermediate_size": 40_000_000}, {"head_dim": 10_000_000}]
)
def test_more_weights_than_the_files_hold_are_not_allocated(
    model: Path, tmp_path: Path, changes: dict[str, int]
) -> None:
    folder, start = changed(model, tmp_path, **changes), time.monotonic()
    with pytest.raises(ModelError, match=r"describes a model of [\d,]+ weights, and its files have only [\d,]+ bytes"):
        load_model(folder, "causal", torch.float32)
    assert time.monotonic() - start < 10
