"""Adapters that would have peft read or import what a stranger names."""

import json
from pathlib import Path

import pytest

from pipeline.teacher.adapter import require_plain_lora
from schemas.errors import ModelError

PLAIN = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "auto_mapping": {"parent_library": "x"}}


def write(folder: Path, **changes: object) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | changes))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_a_plain_lora_passes(tmp_path: Path) -> None:
    require_plain_lora(write(tmp_path, megatron_config=None, megatron_core="megatron.core"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "XLORA", "adapters": {"0": "../elsewhere"}}, r"`peft_type` is 'XLORA'; only LORA is known here"),
        ({"peft_type": None}, r"`peft_type` is None"),
        ({"megatron_config": {}, "megatron_core": "os"}, r"peft imports whatever module `megatron_core` names"),
    ],
)
def test_what_reads_or_runs_other_files_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        require_plain_lora(write(tmp_path, **changes))


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"not a LoRA adapter in safetensors: there is no adapter_model\.safetensors"):
        require_plain_lora(tmp_path)
