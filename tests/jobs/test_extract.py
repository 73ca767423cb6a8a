"""What `stillroom extract`, `plan` and `reindex` say of a real config and a real cache."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.filesize import decimal

from jobs.extract import rebuild_index, run_extension, run_extraction, show_plan
from jobs.verify import verify_cache
from pipeline.corpus.plan import predict_bytes
from pipeline.output.disk import teacher_bytes
from pipeline.output.missing import Missing, request_at_output
from pipeline.request.request import make_request
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.yaml import dump_config, load_config
from schemas.errors import CacheError, CorpusError
from tests.buckets import Bucket
from tests.caches import build_cache, extraction, smallest_cache, write_corpus
from tests.files import hashes
from tests.rays import OneRay
from tests.tiny import TEXTS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = smallest_cache(tmp_path_factory.mktemp("extract"), 4, 60)
    return cache.parent


def repeating(corpus: Path, copy: Path) -> Path:
    """The corpus in `copy`, its first record once more."""
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    copy.write_text("".join([*lines, lines[0]]), encoding="utf-8")
    return copy


def test_a_plan_says_what_would_be_done_and_writes_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "texts").mkdir()
    corpus = write_corpus(tmp_path / "texts" / "a.jsonl", TEXTS[:4])
    (tmp_path / "texts" / ".hidden.jsonl").write_text("{}")
    (tmp_path / "texts" / "empty.csv").touch()
    kept = {"states": {"hidden": [1], "mass": [1]}, "corpus": {"files": [str(corpus.parent)]}}
    config = extraction(tmp_path / "new", made / "teacher", corpus, **kept)
    (tmp_path / "extract.yaml").write_text(dump_config(config))
    show_plan(tmp_path / "extract.yaml", ["batching.unit_tokens=60"])
    rows = dict(
        line.split(None, 1)
        for line in capsys.readouterr().out.partition("┏")[0].splitlines()
        if not line.startswith(("files left", "on disk"))
    )
    request = make_request(load_config(tmp_path / "extract.yaml", ExtractionConfig, ["batching.unit_tokens=60"]))
    assert rows["fingerprint"].strip() == request.manifest.fingerprint
    assert rows["samples"].strip() == "4 (0 empty left out)"
    assert rows["units"].strip() == f"{len(request.plan.units)} of about 60 tokens"
    assert rows["arrays"].strip() == "hidden/1 (float32), mass/1 (float32)"
    assert rows["teacher"].strip() == "teacher (causal), 1 layers"
    show_plan(tmp_path / "extract.yaml", ["batching.unit_tokens=60"])
    said = capsys.readouterr().out
    shards, teacher = predict_bytes(request.plan, request.manifest.arrays), teacher_bytes(request.manifest.teacher)
    in_all = f"about {decimal(shards + teacher)}: {decimal(shards)} in shards, {decimal(teacher)} in teacher/"
    assert in_all in said and re.search(r"workers +1, each with 0\.5 CPUs", said)
    show_plan(tmp_path / "extract.yaml", ["states.dtype=bfloat16"])
    assert "rather more" in capsys.readouterr().out and "rather more" not in said  # of codecs that learn from so little
    with_repeat = repeating(corpus, tmp_path / "repeating.jsonl")
    show_plan(tmp_path / "extract.yaml", [f"corpus.files=[{with_repeat}]", "corpus.repeats=skip"])
    assert re.search(r"samples +4 \(0 empty, 1 repeated left out\)", capsys.readouterr().out)
    hidden, empty = tmp_path / "texts" / ".hidden.jsonl", tmp_path / "texts" / "empty.csv"
    assert f"{hidden} (hidden), {empty} (holds no record)" in said
    assert not (tmp_path / "new").exists()


def test_a_plan_that_probes_says_what_it_measured(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:4])
    config = extraction(tmp_path / "new", made / "teacher", corpus, states={"hidden": [1], "mass": [1]})
    (tmp_path / "extract.yaml").write_text(dump_config(config))
    show_plan(tmp_path / "extract.yaml", [], probe=True)
    said = capsys.readouterr().out
    tokens = int(Cache(made / "cache").tokens[:4].sum())
    assert f"tokens        {tokens}, counted" in said and re.search(r"teacher here  [\d,]+ tokens/s over \d+ tok", said)
    assert re.search(
        r"time          \d+ s to load and prove the first shard, then \d+ s on 1 of these \(0\.00 teacher hours",
        said,
    )
    assert re.search(rf"hidden/1 │ +{tokens} │ +{decimal(4 * 8 * tokens)}", said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "extract.yaml"]


def test_a_plan_of_a_cache_that_is_there_says_what_is_still_to_be_done(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    states, batching = {"hidden": [0, 1], "mass": [1]}, {"unit_tokens": 60}
    more = extraction(made / "cache", made / "teacher", made / "corpus.jsonl", states=states, batching=batching)
    path = tmp_path / "extract.yaml"
    path.write_text(dump_config(more))
    before = hashes(made)

    def to_do(*overrides: str, probe: bool = False) -> str:
        show_plan(path, overrides, probe)
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("still to do", "refused")))
        return line.split(None, 3 if line.startswith("still") else 1)[-1].strip()

    plan, cache = make_request(more).plan, Cache(made / "cache")
    (hidden,) = (array for array in make_request(more).manifest.arrays if array.path == "hidden/0")
    units, tokens = len(plan.units), int(cache.tokens.sum())
    held = [replace(unit, tokens=int(cache.tokens[cache.shards == unit.number].sum())) for unit in plan.units]
    size = predict_bytes(plan, [hidden], held, texts=False)
    assert to_do() == f"{units} of {units} units (hidden/0), about {tokens} tokens, about {decimal(size)}"
    assert re.fullmatch(rf"{units} of {units} units \(hidden/0\), {tokens} tokens, about [\d.]+ kB", to_do(probe=True))
    assert to_do("states.hidden=[1]") == "nothing: all its shards are there"
    assert "cache is there: the cache holds mass/1, and its config does not" in to_do("states.mass=[]")
    assert hashes(made) == before


def test_a_plan_of_a_cache_that_was_begun_says_that_its_shards_foresee_the_rest(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    cache = Path(shutil.copytree(made / "cache", tmp_path / "cache"))
    states, batching = {"hidden": [1], "mass": [1]}, {"unit_tokens": 60}
    asked = extraction(cache, made / "teacher", made / "corpus.jsonl", states=states, batching=batching)
    (tmp_path / "extract.yaml").write_text(dump_config(asked))

    def shown() -> dict[str, str]:
        show_plan(tmp_path / "extract.yaml", [])
        lines = [re.split(r"  +", line.strip(), maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        return {line[0]: line[1] for line in lines if len(line) == 2}

    held = int(Cache(cache).tokens.sum())
    whole = shown()
    assert "foreseen" not in whole and whole["tokens"] == f"about {held}"
    size = sum(
        path.stat().st_size for path in cache.glob("shards/*/**/*") if path.is_file() and path.name != "shard.json"
    )
    teacher = teacher_bytes(make_request(asked).manifest.teacher)
    on_disk = f"about {decimal(size + teacher)}: {decimal(size)} in shards, {decimal(teacher)} in teacher/"
    assert whole["on disk"] == on_disk
    shutil.rmtree(cache / "shards/00001")
    (cache / "index.parquet").unlink()
    request, missing = request_at_output(asked, cache)
    assert isinstance(missing, Missing)
    forecast, begun, total = missing.forecast, shown(), len(request.plan.units)
    share = f"{forecast.share:.3g} of the bytes that are foreseen without any"
    assert begun["foreseen"] == f"from the shards that are there ({total - 1}), with {share}"
    tokens, left = forecast.tokens(missing.units), decimal(missing.predict_bytes())
    assert begun["still to do"] == f"1 of {total} units, about {tokens} tokens, about {left}"
    assert begun["tokens"] == f"about {forecast.tokens(request.plan.units)}"
    shutil.rmtree(cache / "shards")
    assert shown().keys() == whole.keys()


def test_an_index_made_anew_is_the_same(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Path(shutil.copytree(made / "cache", tmp_path / "cache"))
    (cache / "index.parquet").unlink()
    rebuild_index(cache)
    assert capsys.readouterr().out.splitlines()[-1] == f"{cache}: index of 4 samples"
    assert (cache / "index.parquet").read_bytes() == (made / "cache" / "index.parquet").read_bytes()


def test_an_extraction_says_what_it_did(
    made: Path, one_ray: OneRay, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To S3, by two workers that know nothing of it but what the driver tells them: the bytes are those of a disk."""
    one_ray.address()
    kept = {"states": {"hidden": [1], "mass": [1]}, "batching": {"unit_tokens": 60}}
    workers = {"count": 2, "cpus": 0.25, "annotator_cpus": 0.25}
    config = extraction(tmp_path, made / "teacher", made / "corpus.jsonl", workers=workers, **kept)
    (tmp_path / "extract.yaml").write_text(dump_config(config))
    url = f"{bucket.url}/cache"

    def extract_once() -> list[str]:
        run_extraction(tmp_path / "extract.yaml", [f"output={url}"])
        return capsys.readouterr().out.splitlines()

    speed = r"[\d,]+ tokens in \d+ s, start and end included; [\d,]+ tokens/s while the teacher ran; "
    assert re.fullmatch(speed + re.escape(url), extract_once()[-1])
    paths = [path for path in (made / "cache").rglob("*") if path.is_file()]
    wanted = {path.relative_to(made).as_posix(): path.read_bytes() for path in paths}
    assert {key: bucket.get(key) for key in bucket.keys("cache/") if not key.endswith("extraction.jsonl")} == wanted
    events = [json.loads(line) for line in bucket.get("cache/extraction.jsonl").splitlines()]
    assert events[0]["event"] == "start" and events[0]["actors"] == 2
    bucket.remove("cache/index.parquet")
    said, held = extract_once()
    assert said == f"{url}: every shard was there already; what was missing beside them is written"
    assert held.startswith("4 samples, ")
    assert bucket.get("cache/index.parquet") == wanted["cache/index.parquet"]
    assert extract_once() == [f"{url} is complete already; nothing to do", held]
    with_repeat = repeating(made / "corpus.jsonl", tmp_path / "repeating.jsonl")
    run_extraction(tmp_path / "extract.yaml", [f"output={url}", f"corpus.files=[{with_repeat}]", "corpus.repeats=skip"])
    assert capsys.readouterr().out.splitlines()[-1] == held.replace("0 empty, ", "0 empty, 1 repeated, ")


def test_a_cache_within_its_own_corpus_is_refused_before_the_corpus_is_read(made: Path, tmp_path: Path) -> None:
    """It would be made, and then never be gone on with: its files would stand among those of the corpus."""
    (tmp_path / "data" / "cache").mkdir(parents=True)
    (tmp_path / "data" / "cache" / "cache.json").write_text("not JSON")
    data = tmp_path / "data"
    config = extraction(data / "cache", made / "teacher", data, corpus={"files": [str(data)]})
    (tmp_path / "extract.yaml").write_text(dump_config(config))
    with pytest.raises(CorpusError, match=rf"^the output {data}/cache lies within the corpus '{data}', which would"):
        show_plan(tmp_path / "extract.yaml", [])
    with pytest.raises(CorpusError, match=r"lies within the corpus"):
        make_request(config)


@pytest.mark.long
def test_what_a_corpus_has_gained_is_added_and_later_commands_know_the_longer_cache(
    made: Path, one_ray: OneRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_ray.address()
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:3])
    states, workers = {"hidden": [1], "mass": [1]}, {"cpus": 0.25, "annotator_cpus": 0.25}
    batching = {"unit_tokens": 60}
    config = extraction(tmp_path / "cache", made / "teacher", corpus, states=states, workers=workers, batching=batching)
    path = tmp_path / "extract.yaml"
    path.write_text(dump_config(config))
    with pytest.raises(CacheError, match="is not a stillroom cache"):
        run_extension(path, [])
    build_cache(config)
    shards = {file: file.read_bytes() for file in (tmp_path / "cache/shards").rglob("*") if file.is_file()}
    write_corpus(corpus, TEXTS[:6])
    with pytest.raises(
        CacheError,
        match=r"is the cache of another request:(.|\n)*at the beginning.*`stillroom extend` adds what it lacks",
    ):
        run_extraction(path, [])
    capsys.readouterr()
    run_extension(path, [])
    assert "6 samples" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in shards} == shards
    for run in (run_extension, run_extraction):
        run(path, [])
        assert "is complete already; nothing to do" in capsys.readouterr().out
    write_corpus(corpus, TEXTS[:7])
    with pytest.raises(CacheError, match="has grown from 6 samples to 7: `stillroom extend` adds them"):
        run_extraction(path, [])
    more = ["states.hidden=[0, 1]"]
    run_extension(path, more)
    assert {file: file.read_bytes() for file in shards} == shards
    added = sorted((tmp_path / "cache/added/1/shards").iterdir())
    assert len(added) == read_manifest(tmp_path / "cache").units and "7 samples" in capsys.readouterr().out
    verify_cache(tmp_path / "cache")
    run_extraction(path, more)
    assert "is complete already; nothing to do" in capsys.readouterr().out
