"""A worker on a machine of its own: what it reads of the teacher is what the driver hashed."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import pipeline.work.worker
from pipeline.annotation.annotator import ANNOTATORS, AnnotatorKind, load_annotator
from pipeline.corpus.sample import Sample, Spans
from pipeline.request.request import ModelFolders, make_request
from pipeline.work.worker import Job, TeacherWorker, annotate_unit, make_job
from schemas.cache.writer import write_manifest
from schemas.errors import ConfigError, ModelError
from tests.caches import extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer

SAMPLES = [Sample.of_response("s", "", "a small grey cat")]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    return make(tmp_path)


def make(folder: Path, adapter: bool = False) -> Job:
    teacher = {"adapter": str(folder / "adapter")} if adapter else {}
    config = extraction(folder / "cache", folder / "teacher", write_corpus(folder / "corpus.jsonl"), teacher=teacher)
    request = make_request(config)
    config.output.mkdir()
    write_manifest(config.output, request.manifest)
    return make_job(request, config.output)


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


class Careless:
    """A toy annotator, of a package, that does not do what is asked of it."""

    version = "careless 1"

    def __init__(self, error: Exception | None):
        self.error = error

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        if self.error is not None:
            raise self.error
        return []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("noun"), "KeyError: 'noun'"),
        (None, "ValueError: it found spans of 0 texts, and 1 were given"),
    ],
)
def test_an_annotator_of_a_package_that_fails_is_named(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception | None, said: str
) -> None:
    kind = AnnotatorKind("careless", "a toy", lambda _: Careless(error))
    monkeypatch.setitem(ANNOTATORS.__dict__, "_found", {"careless": kind})
    monkeypatch.setattr(ANNOTATORS, "_packages", {"careless": "haste 1.0"})
    monkeypatch.setattr(pipeline.work.worker, "_annotator", load_annotator)  # without those that it remembers
    spans = job.config.spans.model_copy(update={"annotator": "careless"})
    given = replace(
        job,
        config=job.config.model_copy(update={"spans": spans}),
        manifest=job.manifest.model_copy(update={"annotator": "careless 1"}),
    )
    with pytest.raises(ConfigError, match=f"^the annotator 'careless' of haste 1.0 failed: {said}; mend that package"):
        annotate_unit(given, 0, SAMPLES)


def test_another_adapter_at_the_same_path_is_refused(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 8}')
    job = make(tmp_path, adapter=True)
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


def test_a_pipeline_in_a_folder_is_given_to_workers_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their working directory is another; the name of an installed one is no folder, and stays."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipe").mkdir()
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    request = make_request(
        extraction(tmp_path / "cache", tmp_path / "teacher", write_corpus(tmp_path / "corpus.jsonl"))
    )
    for spec, expected in (("spacy:pipe", f"spacy:{tmp_path}/pipe"), ("spacy:other", "spacy:other"), ("none", "none")):
        spans = request.config.spans.model_copy(update={"annotator": spec})
        asked = replace(request, config=request.config.model_copy(update={"spans": spans}))
        assert make_job(asked, tmp_path / "cache").config.spans.annotator == expected
