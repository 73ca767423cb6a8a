"""Whole extractions on a real Ray: what the cache holds, and that no byte depends on workers, tries or deaths."""

import json
import os
import re
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray.exceptions import (
    ActorUnschedulableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RuntimeEnvSetupError,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

import pipeline.cluster.extract
import pipeline.output.disk
from pipeline.cluster.extract import extract
from pipeline.corpus.plan import UNIT_BYTES, predict_bytes
from pipeline.output.resume import locked
from pipeline.request.request import make_request
from schemas.cache.codec_files import CODEC_FOLDER
from schemas.cache.manifest import TEACHER, read_manifest
from schemas.cache.reader import Cache
from schemas.cache.shard import shard_path
from schemas.errors import CacheError, ConfigError, CorpusError, ResourceError
from tests.caches import extract_here
from tests.commands import ROOT, Program, run
from tests.pipeline.cluster.running import (
    config,
    make_inputs,
    num_shards,
    shard_files,
    teacher_processes_from_now_on,
    when,
)
from tests.rays import OneRay
from tests.tiny import TEXTS

pytestmark = pytest.mark.timeout(600)  # every start of an actor imports torch and transformers


@pytest.fixture
def ray_here(one_ray: OneRay) -> str:
    """The address of a local Ray."""
    return one_ray.address()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a corpus of some 13,000 tokens: 23 units, enough to die in the middle of."""
    return make_inputs(tmp_path_factory.mktemp("extract"))


@pytest.fixture(scope="module")
def whole(one_ray: OneRay, folder: Path) -> Path:
    """The cache that every other one is compared with: one worker, no trouble."""
    one_ray.address()
    result = extract(config(folder, "whole"))
    assert not result.already_done and result.new_units == result.units > 20
    assert (result.truncated, result.overlong, result.empty) == (1, 1, 1)
    assert result.samples == len(TEXTS) * 10 - 2
    assert result.tokens_per_second is not None and result.tokens_per_second > 0
    request = make_request(config(folder, "whole"))
    assert predict_bytes(request.plan, request.manifest.arrays) == pytest.approx(result.bytes, rel=0.1)
    return folder / "whole"


def scraped(metric: str, cache: str, wanted: float) -> float:
    """The sum of what this Ray's metrics say of a cache: they come a moment late."""
    found = 0.0
    port, limit = ray.nodes()[0]["MetricsExportPort"], time.monotonic() + 30
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < limit:
        with suppress(OSError), opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith(f"{metric}{{")]
            found = sum(float(line.split()[-1]) for line in lines if f'cache="{cache}"' in line)
        if found == pytest.approx(wanted):
            break
        time.sleep(0.5)
    return found


def test_where_the_time_went_is_told_by_unit_and_as_a_whole(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "extraction.jsonl").read_text().splitlines()]
    units = [line for line in lines if line["event"] == "unit"]
    assert [line["event"] for line in lines[:1] + lines[-1:]] == ["start", "end"]
    assert sorted(line["unit"] for line in units) == list(range(len(units))) and len(units) > 20
    assert all(line["worker"] == 0 and line["tries"] == 1 and 0 <= line["padding"] < 0.5 for line in units)
    assert sum(line["overlong"] for line in units) == sum(line["truncated"] for line in units) == 1
    end = lines[-1]
    assert end["tokens"] == sum(line["tokens"] for line in units) and end["retries"] == {} and end["workers"] == 1
    assert end["forward_seconds"] == pytest.approx(sum(line["forward_seconds"] for line in units), abs=0.05)
    slowest = min(units, key=lambda line: line["tokens"] / line["forward_seconds"])
    assert end["slowest"][0]["unit"] == slowest["unit"] and 0 <= end["idle"] < 1 and 0 < end["padding"] < 0.3
    for metric, figure in (("tokens_total", "tokens"), ("idle_share", "idle"), ("padding_share", "padding")):
        assert scraped(f"ray_stillroom_{metric}", "whole", end[figure]) == pytest.approx(end[figure])


def test_the_cache_holds_the_teachers_states(whole: Path, folder: Path) -> None:
    cache = Cache(whole)
    assert pq.read_table(whole / "index.parquet").column("sample_id").to_pylist() == [
        str(i) for i in range(len(TEXTS) * 10) if i not in (9, 11)
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    arrays = [cache.array("hidden", 0), cache.array("hidden", 3), cache.array("mass", 3)]
    for position in (0, 7, 200, len(cache) - 1):
        sample = cache.sample(position)
        assert tokenizer(sample.text)["input_ids"] == sample.token_ids.tolist()
        with torch.no_grad():
            hidden = model(torch.tensor(sample.token_ids)[None].long(), output_hidden_states=True).hidden_states
        found = cache.states(position, arrays)
        for layer, states in zip((0, 3), found[:2], strict=True):
            stored = torch.from_numpy(np.array(states)).view(torch.bfloat16).float()
            torch.testing.assert_close(stored, hidden[layer][0], rtol=1e-2, atol=1e-2)
        assert found[2].sum() == pytest.approx(1, abs=1e-5)
    cut = cache.sample(7)
    assert cut.truncated and len(cut.token_ids) <= 128 and " ".join(TEXTS[:12]).startswith(cut.text.removeprefix("7. "))


def test_a_finished_cache_needs_no_ray(whole: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shard_files(whole)
    monkeypatch.setattr(pipeline.cluster.extract, "connected", None)
    states = {"hidden": [0, 3], "mass": [-1], "encoding": "exact"}
    done = extract(config(folder, "whole", workers={"count": 2}, states=states))
    assert done.already_done and done.new_units == 0 and done.samples == len(TEXTS) * 10 - 2
    assert shard_files(whole) == before


def test_another_request_is_refused_and_the_fields_named(whole: Path, folder: Path) -> None:
    with pytest.raises(CacheError) as caught:
        extract(config(folder, "whole", teacher={"max_tokens": 64}, spans={"annotator": "none"}))
    lines = str(caught.value).splitlines()
    assert "is the cache of another request" in lines[0] and "name another output" in lines[-1]
    assert "  teacher.max_tokens: found 128, wanted 64" in lines
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["annotator", "teacher.max_tokens"]


def test_a_folder_that_is_no_cache_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CacheError, match=r"not a stillroom cache and not empty \(it holds thesis.tex\)"):
        extract(config(folder, str(tmp_path)))
    with pytest.raises(CacheError, match="is a file"):
        extract(config(folder, str(tmp_path / "thesis.tex")))
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_what_cannot_be_is_said_before_ray_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"workers\.gpus is 0"):
        extract(config(folder, "x", teacher={"device": "cuda"}))
    monkeypatch.setattr(pipeline.output.disk, "free_bytes", lambda cache: 300 * 2**20)
    monkeypatch.setattr(pipeline.output.disk, "RESERVE_BYTES", 299 * 2**20)
    said = r"about 2\.\d MB with the \d+\.\d kB of what lies beside them, and 314\.6 MB are free"
    with pytest.raises(ResourceError, match=said):
        extract(config(folder, "x"))


def test_too_many_workers_are_refused_not_waited_for(ray_here: str, folder: Path) -> None:
    with pytest.raises(ResourceError, match=r"no room for 500 teacher actors of 0\.25 CPUs and 0 GPUs each on this"):
        extract(config(folder, "many", workers={"count": 500}))
    with pytest.raises(ResourceError, match="no room for 1 teacher actor of 0 CPUs and 64 GPUs on this"):
        extract(config(folder, "many", teacher={"placement": "spread"}, workers={"cpus": 0, "gpus": 64}))
    with pytest.raises(ResourceError, match=r"may leave no machine with 500 CPUs free for annotation"):
        extract(config(folder, "many", workers={"annotator_cpus": 500}))


def test_a_workers_error_comes_out_as_itself(ray_here: str, folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"^sample '7' has \d+ tokens, more than teacher.max_tokens \(128\)"):
        extract(config(folder, "strict", corpus={"overlong": "error"}))
    assert not list((folder / "strict" / "shards").glob(".*"))


def test_a_full_disk_ends_the_run_and_a_damaged_shard_is_redone(
    whole: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = folder / "full"
    monkeypatch.setattr(pipeline.output.disk, "free_bytes", lambda cache: 2**40 if num_shards(cache) < 5 else 2**20)
    with pytest.raises(ResourceError, match=r"of \d+ units are still to be written"):
        extract(config(folder, "full"))
    kept, units = num_shards(cache), read_manifest(cache).units
    assert 5 <= kept < units and not list((cache / "shards").glob(".*"))
    monkeypatch.undo()
    samples = shard_path(cache, 3) / "samples.arrow"
    samples.write_bytes(samples.read_bytes()[:100])
    (cache / "shards" / ".00009-killed.tmp").mkdir()
    capsys.readouterr()
    assert extract(config(folder, "full")).new_units == units - kept + 1
    assert shard_files(cache) == shard_files(whole)
    said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(said) == 1 and said[0].startswith("shard 3 is damaged and will be redone")


@contextmanager
def deaths_named(*names: Callable[[str], RayError]) -> Iterator[None]:
    """Ray as it is, except for the names that it gives to the deaths of actors, one after the other."""
    get, given = ray.get, cycle(names)

    def renamed(*arguments: Any, **options: Any) -> Any:
        try:
            return get(*arguments, **options)
        except RayActorError as error:
            raise next(given)(str(error)) from None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", renamed)
        yield


def test_killed_workers_cost_a_try_and_no_byte_whatever_ray_calls_their_death(whole: Path, folder: Path) -> None:
    """Once amid its units without another try; then while it loads, and amid its units, with one: not every death is a
    RayActorError."""
    cache, ours = folder / "killed", teacher_processes_from_now_on()
    watcher = when(lambda: num_shards(cache) >= 3, lambda: ours()[0].kill())
    with pytest.raises(ResourceError, match=r"^unit \d+: its worker died 1 times; .* Ray says: The actor died"):
        extract(config(folder, "killed", workers={"retries": 0}))
    watcher.join()
    before = num_shards(cache)
    assert 3 <= before < read_manifest(cache).units
    later = teacher_processes_from_now_on()
    loading = when(lambda: bool(later()), lambda: later()[0].kill())
    working = when(lambda: num_shards(cache) >= before + 4, lambda: later()[0].kill())
    with deaths_named(OutOfMemoryError, ActorUnschedulableError):
        result = extract(config(folder, "killed", workers={"retries": 1}))
    loading.join()
    working.join()
    assert result.new_units == result.units - before
    events = [json.loads(line) for line in (cache / "extraction.jsonl").read_text().splitlines()]
    start = max(number for number, event in enumerate(events) if event["event"] == "start")
    lost = [event["what"] for event in events[start:] if event["event"] == "lost"]
    assert lost[0] == "loading the teacher" and lost[-1].startswith("unit ")
    assert shard_files(cache) == shard_files(whole)
    assert result.figures is not None
    assert set(result.figures.retries) == {
        "memory ran out and Ray ended its worker",
        "Ray could not start its worker",
    }
    retries = sum(result.figures.retries.values())
    assert scraped("ray_stillroom_retries_total", "killed", retries) == retries > 1


@pytest.mark.long
def test_an_actor_that_is_never_started_ends_the_run(ray_here: str, folder: Path, tmp_path: Path) -> None:
    ours = teacher_processes_from_now_on()
    watcher = when(lambda: bool(ours()), lambda: ours()[0].kill())
    said = r"^loading the teacher: Ray could not start its worker 1 times; see to the cluster"
    with deaths_named(RuntimeEnvSetupError), pytest.raises(ResourceError, match=said):
        extract(config(folder, str(tmp_path / "cache"), workers={"retries": 0}))
    watcher.join()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="Ray watches memory on Linux alone")
def test_what_rays_memory_monitor_ends_is_said_to_lack_memory(folder: Path, tmp_path: Path) -> None:
    """Ray itself, told that a thousandth of the memory is too much to use."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(ROOT), "RAY_memory_usage_threshold": "0.001"}
    asked = config(folder, str(tmp_path / "cache"), workers={"retries": 1})
    done = run(["-c", DRIVER, asked.model_dump_json()], folder, environment, timeout=240)
    said = (
        r"^schemas\.errors\.ResourceError: .*: memory ran out and Ray ended its worker 2 times; use fewer workers, or "
    )
    assert re.search(said, done.stderr, re.MULTILINE), done.stderr


def is_calibrating(cache: Path) -> bool:
    return (cache / TEACHER).is_dir() and not (cache / CODEC_FOLDER).is_dir()


def has_some_shards(cache: Path) -> bool:
    return num_shards(cache) >= 4


DRAWN = {"top_k": {"k": 8}, "sampled": {"draws": 12, "proposal": 0.8}}
POOLED = {"pooled": {"pooling": "last", "normalise": True}}
ALL = {"hidden": [2, "last"], "mass": [], "encoding": "small", **DRAWN, **POOLED}


@pytest.mark.parametrize(
    ("states", "moments", "workers"),
    [
        pytest.param(ALL, [is_calibrating, has_some_shards], 2, id="tokens"),
        pytest.param(
            {"hidden": [], "mass": [], **POOLED, "dtype": "float16"}, [], 1, marks=pytest.mark.long, id="embeddings"
        ),
    ],
)
def test_what_is_drawn_pooled_or_encoded_depends_on_no_worker(
    ray_here: str,
    folder: Path,
    tmp_path: Path,
    states: dict[str, Any],
    moments: list[Callable[[Path], bool]],
    workers: int,
) -> None:
    """No Ray against two workers of which one is killed, and killed again; no token of the embeddings' cache is kept,
    and all are counted."""
    here, reports = extract_here(config(folder, str(tmp_path / "here"), states=states))
    cache = tmp_path / "two"
    ours = teacher_processes_from_now_on()
    watchers = [when(partial(moment, cache), lambda: ours()[0].kill()) for moment in moments]
    two = extract(config(folder, str(cache), states=states, workers={"count": workers}))
    for watcher in watchers:
        watcher.join()
    assert (cache / "extraction.jsonl").read_text().count('"event": "lost"') >= len(moments)
    assert shard_files(cache) == shard_files(here)
    new_tokens = sum(report.tokens for report in reports)
    assert two.samples == len(TEXTS) * 10 - 2 and new_tokens > 10_000 and two.new_tokens > 10_000
    assert two.tokens == (new_tokens if states["hidden"] else 0)
    request = make_request(config(folder, str(cache), states=states))
    # What an empty shard takes is a rough figure, and units as small as these are little else.
    predicted = request.predict_bytes()
    assert predicted == pytest.approx(two.bytes, rel=0.3, abs=UNIT_BYTES * two.units)
    assert extract(config(folder, str(cache), states=states)).already_done


DRIVER = """
import sys
from pathlib import Path
from pipeline.cluster.extract import extract
from schemas.configs.extraction import ExtractionConfig
extract(ExtractionConfig.model_validate_json(sys.argv[1]))
"""


def test_a_killed_driver_is_gone_on_from(whole: Path, folder: Path, ray_here: str) -> None:
    """Killed outright as a process of its own on the same cluster, then asked to stop, then left to finish."""
    cache = folder / "resumed"
    environment = os.environ | {"RAY_ADDRESS": ray_here, "PYTHONPATH": str(ROOT)}
    driver = Program(["-c", DRIVER, config(folder, "resumed").model_dump_json()], folder, environment)
    watcher = when(lambda: num_shards(cache) >= 3, driver.kill)
    _, errors = driver.communicate(timeout=240)
    watcher.join()
    assert driver.returncode == -signal.SIGKILL, errors
    time.sleep(1)  # for its actor to notice
    before = num_shards(cache)
    assert 3 <= before < read_manifest(cache).units
    watcher = when(lambda: num_shards(cache) >= before + 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        extract(config(folder, "resumed"))
    watcher.join()
    time.sleep(1)
    kept = num_shards(cache)
    assert before + 3 <= kept < read_manifest(cache).units
    assert extract(config(folder, "resumed")).new_units == read_manifest(cache).units - kept
    assert shard_files(cache) == shard_files(whole)


def test_two_extractions_do_not_share_a_folder(folder: Path, whole: Path) -> None:
    cache = folder / "locked"
    shutil.copytree(whole, cache)
    (cache / "index.parquet").unlink()
    with locked(cache, print), pytest.raises(CacheError, match="another extraction is writing"):
        extract(config(folder, "locked"))
    assert extract(config(folder, "locked")).new_units == 0
    assert shard_files(cache) == shard_files(whole)
