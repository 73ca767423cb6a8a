"""`stillroom verify`: one line where all is good, and one for every damaged shard."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.verify import ReplayOptions, parse_max_memory, parse_placement, replay_cache, verify_cache
from schemas.cache.index import write_index
from schemas.cache.manifest import read_manifest
from schemas.errors import CacheError, ConfigError, ModelError
from tests.caches import as_recorded, smallest_cache
from tests.pipeline.teacher.tiny_models import memory_for_half


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallest_cache(tmp_path_factory.mktemp("verify"), 6, 30)


def test_what_is_good_is_counted(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_cache(made)
    shards = sorted(made.glob("shards/*"))
    assert len(shards) > 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{made}: {len(shards)} shards, 6 samples, ")
    assert last.endswith(" tokens; every checksum, row and number is good")


def test_every_damaged_shard_is_named_once(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    shards = sorted(cache.glob("shards/*"))
    for shard in (shards[0], shards[-1]):
        path = shard / "samples.arrow"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    with pytest.raises(CacheError) as refused:
        verify_cache(cache)
    assert str(refused.value).splitlines() == [
        f"2 of {len(shards)} shards are damaged:",
        f"  {shards[0]}/samples.arrow does not have its checksum",
        f"  {shards[-1]}/samples.arrow does not have its checksum",
        f"`stillroom repair {cache}` drops these, and `stillroom extract` with the cache's config makes them again, "
        "byte for byte",
    ]


def test_a_replay_says_how_far_samples_are(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay_cache(made, ReplayOptions(3, teacher=str(made.parent / "teacher")))
    said = capsys.readouterr().out
    assert "every checksum, row and number is good" in said
    assert "hidden/1" in said and "mass/1" in said
    assert said.splitlines()[-1] == f"{made}: 3 samples are what {made.parent / 'teacher'} gives for each alone"


def test_a_replay_names_the_shard_sample_layer_and_array_of_what_is_wrong(made: Path, tmp_path: Path) -> None:
    """Rows of a state in the place of others, sealed as if they belonged there: no checksum can know."""
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    shard = sorted(cache.glob("shards/*"))[1]
    (path,) = shard.glob("states.zarr/hidden/1/c/0/0")
    states = np.fromfile(path, np.float32).reshape(-1, 8)
    np.roll(states, 1, axis=0).tofile(path)
    as_recorded(shard, str(path.relative_to(shard)))
    write_index(cache, read_manifest(cache))
    verify_cache(cache)
    with pytest.raises(CacheError) as refused:
        replay_cache(cache, ReplayOptions(1000, teacher=str(made.parent / "teacher")))
    first, fault, _ = str(refused.value).split("\n")
    assert first.endswith("for 6 samples, each alone (seed 0):")
    assert fault.startswith("  shard 1, sample 's") and "layer 1: hidden/1 is off by " in fault


def test_another_teacher_is_told_before_anything_is_read(made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made.parent / "teacher", tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    with pytest.raises(ModelError, match=r"was made with: config differ$"):
        replay_cache(made, ReplayOptions(1, teacher=str(other)))


def test_options_of_a_replay_go_with_it(made: Path) -> None:
    others = (["--teacher", str(made)], ["--in-batch"], ["--trust-remote-code"], ["--placement", "spread"])
    for options in (["--seed", "1"], *others, ["--max-memory", "{cpu: 1GB}"]):
        done = CliRunner().invoke(app, ["verify", str(made), *options])
        assert done.exit_code == 2 and "go with --replay N" in done.output


def test_a_replay_of_a_teacher_that_is_spread_finds_the_same(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With room in memory for a part of its layers, the table is that of the whole teacher, to the digit."""
    replay_cache(made, ReplayOptions(3, teacher=str(made.parent / "teacher")))
    whole = capsys.readouterr().out
    limit = memory_for_half(made.parent / "teacher", 0.94)["max_memory"]  # the embeddings alone are half
    replay_cache(made, ReplayOptions(3, teacher=str(made.parent / "teacher"), max_memory=limit))
    assert capsys.readouterr().out == whole
    said = "teacher.max_memory goes with `placement: spread`"
    with pytest.raises(ConfigError, match=f"^{said}$"):
        replay_cache(made, ReplayOptions(3, teacher=str(made.parent / "teacher"), placement="device", max_memory=limit))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{cpu: lots}", "--max-memory: cpu: String should match pattern"),
        ("{gpu: 4GB}", "--max-memory: gpu: String should match pattern"),
        ("4GB", "--max-memory: Input should be a valid dictionary; give it as '{0: 20GB, cpu: 100GB}'"),
        ("{", "--max-memory is not valid YAML"),
    ],
)
def test_a_limit_of_memory_that_cannot_be_read_is_refused(given: str, said: str) -> None:
    assert parse_max_memory("{0: 20GB, cpu: 1GiB}") == {"0": "20GB", "cpu": "1GiB"}
    with pytest.raises(ConfigError) as refused:
        parse_max_memory(given)
    assert str(refused.value).startswith(said)


def test_a_placement_that_is_not_known_is_refused() -> None:
    assert parse_placement("spread") == "spread"
    with pytest.raises(ConfigError, match=r"^--placement: 'disk' is not known; give device or spread$"):
        parse_placement("disk")
