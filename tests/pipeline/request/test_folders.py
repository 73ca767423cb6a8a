"""What is hashed and what is stamped of a teacher's folders."""

import hashlib
import os
from pathlib import Path

from pipeline.request.folders import find_folders, hash_teacher
from schemas.models.hashes import hash_tokenizer
from tests.pipeline.request.conftest import config
from tests.tiny import tiny_tokenizer


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_parts_are_hashed_by_name_and_content(made: Path) -> None:
    folders = find_folders(config(made))
    hashes = hash_teacher(folders, trust_remote_code=False)
    weights = sha256((made / "teacher" / "model.safetensors").read_bytes())
    assert hashes["weights"] == sha256(f'{{"model.safetensors":"{weights}"}}'.encode())
    assert hashes["adapter"] is None and hashes["tokenizer"] == hash_tokenizer(made / "teacher")
    with (made / "teacher" / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    changed = hash_teacher(folders, trust_remote_code=False)
    assert {name for name in hashes if hashes[name] != changed[name]} == {"tokenizer"}


def test_stamps_tell_a_file_that_was_changed_without_reading_it(made: Path) -> None:
    folders = find_folders(config(made))
    before = folders.stamps()
    assert before == folders.stamps() and [Path(name).parent for name, *_ in before] == [made / "teacher"] * len(before)
    weights = made / "teacher" / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    changed = {Path(new[0]).name for old, new in zip(before, folders.stamps(), strict=True) if old != new}
    assert changed == {"model.safetensors"}


def test_a_tokenizer_and_an_adapter_may_lie_elsewhere(made: Path) -> None:
    tiny_tokenizer(made / "other", "bytelevel")
    (made / "adapter").mkdir()
    teacher = {"tokenizer": str(made / "other"), "adapter": str(made / "adapter")}
    folders = find_folders(config(made, teacher=teacher))
    assert (folders.model.name, folders.tokenizer.name, folders.adapter) == ("teacher", "other", made / "adapter")
