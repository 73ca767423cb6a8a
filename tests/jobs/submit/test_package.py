"""What a job is sent: code, a config that means the same there, and files, but nothing that the cluster should have."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.submit.package import CONFIG, MOST_BYTES, pack
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.errors import ConfigError, CorpusError

EXTRACTION: dict[str, Any] = {
    "output": "/shared/cache",
    "corpus": {"files": ["texts/*.jsonl", "/shared/more.jsonl"], "text": "text"},
    "teacher": {"model": "org/teacher"},
}
TRAINING: dict[str, Any] = {
    "preset": "sra-paper",
    "cache": ["/shared/a", "/shared/b"],
    "output": "/shared/run",
    "student": {"model": "org/student"},
    "evaluation": {"texts": "held_out.jsonl"},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus of two files, to stand in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for name in ("texts/b.jsonl", "texts/a.jsonl", "held_out.jsonl"):
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n')
    return tmp_path


def write(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def test_files_of_relative_paths_are_sent_and_named_there(here: Path, tmp_path: Path) -> None:
    pack("extract", write(here / "x.yaml", EXTRACTION), ["batching.unit_tokens=100"], tmp_path / "job")
    config = load_config(tmp_path / "job" / CONFIG, ExtractionConfig)
    assert config.corpus.files == ["files/0/a.jsonl", "files/1/b.jsonl", "/shared/more.jsonl"]
    assert (tmp_path / "job/files/0/a.jsonl").read_text() == '{"text": "texts/a.jsonl"}\n'
    assert config.batching.unit_tokens == 100 and config.output == Path("/shared/cache")
    said = yaml.safe_load((tmp_path / "job" / CONFIG).read_text())
    assert sorted(said) == ["batching", "corpus", "output", "teacher"] and said["teacher"] == {"model": "org/teacher"}


def test_a_preset_is_what_it_is_here(here: Path, tmp_path: Path) -> None:
    source = write(here / "train.yaml", TRAINING)
    pack("train", source, ["optimizer.lr=1e-4"], tmp_path / "job")
    said = yaml.safe_load((tmp_path / "job" / CONFIG).read_text())
    found = TrainingConfig.model_validate(said)
    assert found.optimizer.lr == 1e-4 and [loss.name for loss in found.objective] == ["ce", "sra"]
    assert found.evaluation is not None and found.evaluation.texts == Path("files/0/held_out.jsonl")
    assert "order" not in said and found.caches == (Path("/shared/a"), Path("/shared/b"))


def test_the_job_runs_what_was_sent(here: Path, tmp_path: Path) -> None:
    """From its own folder, as Ray starts it."""
    pack("extract", write(here / "x.yaml", EXTRACTION), [], tmp_path / "job")
    sent = [path.relative_to(tmp_path / "job") for path in (tmp_path / "job").rglob("*") if path.is_file()]
    assert {path.parts[0] for path in sent} == {"jobs", "pipeline", "schemas", "trainer", "files", CONFIG}
    assert {path.suffix for path in sent} == {".py", ".yaml", ".jsonl"}
    code = "import jobs.cli, schemas.cache.reader; print(jobs.cli.__file__, schemas.cache.reader.__file__)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "job", env={}, capture_output=True, text=True)
    assert [Path(file).is_relative_to(tmp_path / "job") for file in ran.stdout.split()] == [True, True], ran.stderr


@pytest.mark.parametrize(
    ("command", "changes", "said"),
    [
        ("extract", {"output": "cache"}, "output: cache is relative, and Ray deletes the folder of a job; give an abs"),
        ("extract", {"teacher": {"model": "texts"}}, "teacher.model: texts is a folder of this machine, which is not"),
        ("train", {"cache": ["/a", "b"]}, "cache: b is relative, and Ray deletes the folder of a job"),
        (
            "train",
            {"cache": [{"path": "/a", "weight": 0.5}, {"path": "b", "weight": 0.5}]},
            "cache: b is relative, and Ray deletes the folder of a job",
        ),
        ("train", {"student": {"model": "./texts"}}, "student.model: ./texts is a folder of this machine"),
        ("train", {"steps": 0}, "steps: Input should be greater than or equal to 1"),
    ],
)
def test_what_a_job_would_lack_is_refused(here: Path, command: Any, changes: dict[str, Any], said: str) -> None:
    settings = {"extract": EXTRACTION, "train": TRAINING}[command] | changes
    with pytest.raises(ConfigError) as refused:
        pack(command, write(here / "x.yaml", settings), [], here / "job")
    assert said in str(refused.value) and not (here / "job").exists()


def test_files_that_are_missing_or_too_large_are_refused(here: Path) -> None:
    path = write(here / "x.yaml", EXTRACTION)
    with (here / "texts" / "large.jsonl").open("wb") as file:
        file.truncate(MOST_BYTES)
    with pytest.raises(ConfigError, match=r"are 50\.0 MB, and up to 50\.0 MB are sent along \(texts/a\.jsonl, texts/b"):
        pack("extract", path, [], here / "job")
    with pytest.raises(CorpusError, match=r"there is no corpus file nowhere\.jsonl"):
        pack("extract", path, ["corpus.files=[nowhere.jsonl]"], here / "job")


def test_a_sweep_is_sent_with_its_base_in_place(here: Path, tmp_path: Path) -> None:
    base = TRAINING | {"evaluation": {"texts": "/shared/held_out.jsonl"}}
    write(here / "base.yaml", base)
    sweep = {"base": "base.yaml", "output": "/shared/sweep", "grid": {"optimizer.lr": [1e-3, "1e-4"]}, "seeds": [1, 2]}
    pack("sweep", write(here / "sweep.yaml", sweep), ["seeds=[3]"], tmp_path / "job")
    assert yaml.safe_load((tmp_path / "job" / CONFIG).read_text()) == sweep | {"base": base, "seeds": [3]}
    with pytest.raises(ConfigError, match=r"evaluation\.texts: held_out\.jsonl is relative, and a sweep sends no"):
        write(here / "base.yaml", TRAINING)
        pack("sweep", here / "sweep.yaml", [], here / "other")
    with pytest.raises(ConfigError, match="output: sweep is relative"):
        pack("sweep", write(here / "x.yaml", sweep | {"base": base, "output": "sweep"}), [], here / "x")
