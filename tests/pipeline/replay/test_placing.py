"""A teacher is spread where no device has room for it, and where that is asked for."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.replay import placing
from pipeline.replay.placing import Placing, free_bytes, measure
from schemas.models.weights import GGUF


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """150 numbers in bfloat16, in one file."""
    (tmp_path / "config.json").write_text("{}")
    weights = {"a": torch.zeros(10, 12, dtype=torch.bfloat16), "b": torch.zeros(30, dtype=torch.bfloat16)}
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path


def test_weights_take_what_they_take_in_the_compute_dtype(model: Path, tmp_path: Path) -> None:
    assert [measure(model, dtype) for dtype in ("bfloat16", "float32")] == [300, 600]
    other = tmp_path / "gguf"
    other.mkdir()
    (other / GGUF).write_bytes(b"GGUF")
    assert measure(other, "float32") is None


def test_it_is_spread_where_there_is_no_room_for_all(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes("cpu") > 2**20
    for room, wanted in ((667, "device"), (666, "spread")):  # nine tenths of it, for 600 bytes
        monkeypatch.setattr(placing, "free_bytes", lambda device, room=room: room)
        assert Placing().choose(model, "float32", "cpu") == wanted
        assert Placing().choose(model, "bfloat16", "cpu") == "device"
        assert Placing(placement="device").choose(model, "float32", "cpu") == "device"
        assert Placing(max_memory={"cpu": "1GB"}).choose(model, "bfloat16", "cpu") == "spread"


def test_packed_weights_are_not_counted_as_plain_ones(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model / "config.json").write_text('{"quantization_config": {"quant_method": "bitsandbytes"}}')
    monkeypatch.setattr(placing, "free_bytes", lambda device: 1)
    assert Placing().choose(model, "float32", "cpu") == "device"
