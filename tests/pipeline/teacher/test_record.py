"""What can be said of a teacher before its weights are loaded, and which models cannot be one."""

from pathlib import Path

import pytest
import transformers as tf

from schemas.errors import ModelError
from tests.pipeline.teacher.tiny_models import (
    CAUSAL,
    TINY,
    load,
)


def test_records_of_heads(tmp_path: Path) -> None:
    heads = {}
    for name in ("llama", "phi", "gemma2", "cohere", "granite"):
        CAUSAL[name]().save_pretrained(tmp_path / name)
        head = load(tmp_path / name).record.head
        assert head is not None
        heads[name] = (head.bias, head.scale, head.softcap)
    assert heads == {
        "llama": (False, 1.0, None),
        "phi": (True, 1.0, None),
        "gemma2": (False, 1.0, 1.5),
        "cohere": (False, 0.25, None),
        "granite": (False, 0.125, None),
    }


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        (tf.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2), "encoder", r"an encoder-decoder \(t5\)"),
        (tf.OPTConfig(**TINY, ffn_dim=8, word_embed_proj_dim=16), "causal", "the final states are 16 wide"),
    ],
)
def test_models_that_cannot_be_teachers(config: tf.PreTrainedConfig, kind: str, message: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")  # refused before it is read
    with pytest.raises(ModelError, match=message):
        load(tmp_path, kind=kind)
