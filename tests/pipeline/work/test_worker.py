"""A worker on a machine of its own: what it reads of the teacher is what the driver hashed."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import pipeline.work.worker
from pipeline.corpus.sample import Sample
from pipeline.request.folders import ModelFolders
from pipeline.work.annotate import annotate_unit
from pipeline.work.job import Job
from pipeline.work.worker import TeacherWorker
from schemas.errors import ModelError
from tests.pipeline.work.conftest import tiny_job
from tests.tiny import tiny_llama, tiny_tokenizer

SAMPLES = [Sample.of_response("s", "", "a small grey cat")]


def prepare(job: Job) -> None:
    TeacherWorker(job).prepare(save_files=False)


def test_the_drivers_own_files_are_not_hashed_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> dict[str, str | None]:
        raise AssertionError("gigabytes are read twice")

    monkeypatch.setattr(pipeline.work.worker, "hash_teacher", never)
    prepare(job)


def test_a_copy_of_the_files_will_do(job: Job) -> None:
    folder = job.folders.model
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)
    (folder / "README.md").write_text("which nobody reads")
    assert job.folders.stamps() != job.stamps
    prepare(job)
    annotate_unit(job, 0, SAMPLES)


def exchange(path: Path, content: bytes) -> None:
    """As on another machine: of the same size and time, if not longer, but not the same file."""
    before = path.stat()
    path.rename(path.with_name("kept"))
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_name("kept").unlink()


def other_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    exchange(folder / "model.safetensors", content[:-2] + bytes([content[-2] ^ 1, content[-1]]))


def other_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    exchange(folder / "config.json", json.dumps(config | {"rms_norm_eps": 0.1}).encode())


def other_tokenizer(folder: Path) -> None:
    exchange(folder / "tokenizer.json", (folder / "tokenizer.json").read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("change", "part"), [(other_weights, "weights"), (other_config, "config"), (other_tokenizer, "tokenizer")]
)
def test_another_teacher_at_the_same_path_is_refused(change: Callable[[Path], None], part: str, job: Job) -> None:
    change(job.folders.model)
    said = rf"teacher on \S+ is not the driver's teacher: {part} differ; put the same files on every machine"
    with pytest.raises(ModelError, match=said):
        prepare(job)
    if part == "tokenizer":
        with pytest.raises(ModelError, match=said):
            annotate_unit(job, 0, SAMPLES)
    else:
        annotate_unit(job, 0, SAMPLES)


def test_another_adapter_at_the_same_path_is_refused(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 8}')
    job = tiny_job(tmp_path, adapter=True)
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 4}')
    with pytest.raises(ModelError, match="is not the driver's teacher: adapter differ"):
        prepare(job)


def test_what_was_fetched_is_proven_too(job: Job, tmp_path: Path) -> None:
    """The driver's paths are not there, and the name of the teacher leads to another one."""
    elsewhere = ModelFolders(tmp_path / "driver", tmp_path / "driver", None)
    prepare(replace(job, folders=elsewhere))
    other_config(tmp_path / "teacher")
    other_tokenizer(tmp_path / "teacher")
    with pytest.raises(ModelError, match="is not the driver's teacher: config, tokenizer differ"):
        prepare(replace(job, folders=elsewhere))
