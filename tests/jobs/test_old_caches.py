"""Caches of format 1, made before there were checksums: they are read as ever, and what was altered is not sealed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from jobs.extract import rebuild_index
from jobs.inspect import show_caches
from jobs.verify import verify_cache
from schemas.cache.checksums import CHECKSUMS
from schemas.cache.index import write_index
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.cache.states import array_files
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.configs.training import TrainingConfig
from schemas.errors import CacheError
from schemas.models.teacher_head import load_teacher_head
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from trainer.runs.train import train

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "cache-1"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "cache"))


def swap_two_tokens(cache: Path) -> None:
    path = cache / "teacher" / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(content))


def test_a_student_learns_from_it(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = {
        "architecture": {
            "model_type": "llama",
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        "tokenizer": "teacher",
    }
    objective = [{"loss": "ce"}, {"loss": "kd"}, {"loss": "sra"}]
    run = {"cache": cache, "output": cache.parent / "run", "student": student, "objective": objective}
    config = TrainingConfig.model_validate(run | {"steps": 2, "batch_size": 2, "threads": 1})
    assert train(config).steps == 2
    show_caches([cache], "s2")
    said = capsys.readouterr().out
    assert "stillroom-cache 1, fingerprint" in said and "sample s2" in said


def test_a_whole_one_is_sealed(cache: Path) -> None:
    rebuild_index(cache)
    assert (cache / CHECKSUMS).exists()
    assert load_teacher_tokenizer(cache, read_manifest(cache)) is not None


@pytest.mark.parametrize("sealed", [False, True])
def test_its_files_are_compared_whole(cache: Path, sealed: bool) -> None:
    """Its shards have no checksums of blocks, sealed anew or not."""
    if sealed:
        rebuild_index(cache)
        assert json.loads((cache / CHECKSUMS).read_text())["blocks"] is None
    arrays = Cache(cache).manifest.arrays
    for array in arrays:
        path = cache / "shards/00000/states.zarr" / array_files(array)[0]
        sound = path.read_bytes()
        path.unlink()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))  # of the last sample
        with pytest.raises(CacheError, match=rf"{array.path}.* does not have its checksum; run `stillroom repair "):
            Cache(cache).states(0, [array])
        path.unlink()
        path.write_bytes(sound)
    found = Cache(cache)
    assert all(isinstance(values, np.ndarray) for values in found.states(0, arrays))


@pytest.mark.parametrize("name", ["tokenizer.json", "unembedding.safetensors", "config.json"])
def test_what_is_altered_after_sealing_is_noticed(cache: Path, name: str) -> None:
    """The teacher's files had no checksums of their own: sealing gives them some."""
    rebuild_index(cache)
    path = cache / "teacher" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=rf"{name} does not have its checksum"):
        verify_cache(cache)
    with pytest.raises(CacheError, match=rf"{name} does not have its checksum"):
        load_teacher_head(cache, Cache(cache).manifest)


def test_sealing_twice_changes_nothing(cache: Path) -> None:
    rebuild_index(cache)
    first = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file() and path.name != "index.parquet"}
    rebuild_index(cache)
    assert all(path.read_bytes() == content for path, content in first.items())
    verify_cache(cache)


def test_one_sealed_without_the_teachers_files_is_proven_still(cache: Path) -> None:
    """As `reindex` sealed old caches when checksums.json was new: the identity proves the tokenizer at least."""
    write_index(cache, read_manifest(cache))
    assert json.loads((cache / CHECKSUMS).read_text())["teacher"] is None
    swap_two_tokens(cache)
    for refuse in (lambda: load_teacher_tokenizer(cache, read_manifest(cache)), lambda: rebuild_index(cache)):
        with pytest.raises(CacheError, match="is not the one that the cache was made with"):
            refuse()


def test_an_unembedding_that_cannot_be_is_not_sealed(cache: Path) -> None:
    path = cache / "teacher" / "unembedding.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path)
    with pytest.raises(CacheError, match="holds numbers that are not finite"):
        rebuild_index(cache)
    assert not (cache / CHECKSUMS).exists() and not (cache / "teacher" / "files.json").exists()


def test_an_altered_tokenizer_is_neither_sealed_nor_loaded(cache: Path) -> None:
    swap_two_tokens(cache)
    with pytest.raises(CacheError, match="is not the one that the cache was made with"):
        rebuild_index(cache)
    assert not (cache / CHECKSUMS).exists()
    with pytest.raises(CacheError, match="is not the one that the cache was made with"):
        load_teacher_tokenizer(cache, read_manifest(cache))


def test_swapped_shards_are_not_sealed(cache: Path) -> None:
    shards = cache / "shards"
    (shards / "00000").rename(shards / "x")
    (shards / "00001").rename(shards / "00000")
    (shards / "x").rename(shards / "00001")
    with pytest.raises(CacheError, match="00000 holds work unit 1: it stands in the place of another"):
        rebuild_index(cache)


def test_a_file_that_was_added_to_the_teachers_is_refused(cache: Path) -> None:
    TEACHER_FILES.write_record(cache / "teacher")
    assert TEACHER_FILES.check(cache)
    (cache / "teacher" / "added_tokens.json").write_text('{"the": 5}')
    with pytest.raises(CacheError, match=r"does not name added_tokens\.json, which was added"):
        TEACHER_FILES.check(cache)
