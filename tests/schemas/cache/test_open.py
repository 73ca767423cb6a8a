"""A cache is open: zarr, pyarrow and DuckDB read it without our code. And a released format stays readable: golden/."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import zarr

from jobs.verify import verify_cache
from schemas.cache.arrays import KINDS, ArrayRecord
from schemas.cache.kinds.next_token import NextToken
from schemas.cache.manifest import CacheManifest
from schemas.cache.reader import Cache
from schemas.cache.samples import INDEX_SCHEMA, SAMPLES_SCHEMA
from schemas.cache.shard import ShardRecord
from schemas.cache.teacher import TeacherRecord
from tests.caches import build_cache, extraction, write_corpus
from tests.snippets import snippet
from tests.stored import opened
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "cache-1"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    config = extraction(
        folder / "cache",
        folder / "teacher",
        write_corpus(folder / "corpus.jsonl"),
        states={"dtype": "bfloat16", "encoding": "exact"},
    )
    return build_cache(config)


def test_zarr_and_pyarrow_alone_read_a_cache(cache: Path) -> None:
    """The README's snippet, held against our own reader."""
    samples = pa.ipc.open_file(str(cache / "shards/00000/samples.arrow")).read_all()
    states = opened(cache / "shards/00000/states.zarr", "hidden/2")
    ours = Cache(cache)
    for row in range(len(samples)):
        start, count = samples["row_start"][row].as_py(), samples["row_count"][row].as_py()
        bits = np.asarray(states[start : start + count])
        assert states.attrs["dtype"] == "bfloat16"
        hidden = (bits.astype(np.uint32) << 16).view(np.float32)
        position = ours.position(samples["sample_id"][row].as_py())
        np.testing.assert_array_equal(bits, ours.states(position, [ours.array("hidden", 2)])[0])
        assert hidden.shape == (len(samples["token_ids"][row].as_py()), 32) and np.isfinite(hidden).all()
        text = samples["text"][row].as_py()
        assert text == ours.sample(position).text
        for start, end in samples["words"][row].as_py():
            assert text[start:end].strip() == text[start:end] != ""


def test_the_readme_of_the_format_reads_a_sample(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its code as it stands there, in a process that has nothing of ours."""
    code = snippet("open_group")
    assert len(code.strip().splitlines()) <= 15
    ours = Cache(cache)
    position = len(ours) - 1
    sample = ours.sample(position)
    given = f"CACHE, SAMPLE, ARRAY = {str(cache)!r}, {sample.id!r}, 'hidden/2'\n"
    shown = "\nimport sys\nprint(sum(map(float, state)), 'schemas' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", given + code + shown],
        capture_output=True,
        text=True,
        check=True,
    )
    bits = ours.states(position, [ours.array("hidden", 2)])[0]
    last = (bits.astype(np.uint32) << 16).view(np.float32)[-1]
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{sum(map(float, last))} False"
    start, end = sample.token_offsets[0].tolist()
    assert lines[0].startswith(repr(sample.text[start:end]))


@pytest.mark.parametrize("proposal", [0.8, 1.0])
def test_the_readme_unpacks_distributions(tmp_path: Path, proposal: float) -> None:
    """Its functions as they stand there, over Zarr's arrays, against our own reader. The kinds' layouts have no other
    definition: what the functions give is what the format means."""
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:12])
    states = {"hidden": [], "mass": [], "top_k": {"k": 5}, "sampled": {"draws": 70, "proposal": proposal}}
    batching = {"unit_tokens": 1000}
    config = extraction(tmp_path / "cache", tmp_path / "teacher", corpus, states=states, batching=batching)
    ours = Cache(build_cache(config))
    code = snippet("def ragged")
    named: dict[str, Any] = {"numpy": np}
    exec(code, named)
    vocabulary, records = ours.manifest.teacher.vocab_size, ours.manifest.records
    group = zarr.open_group(ours.path / "shards/00000/states.zarr", mode="r")
    row = 0
    for position in np.flatnonzero(ours.shards == 0).tolist():
        for name, given in (("top_k", "likeliest"), ("sampled", "draws")):
            kind = KINDS[name]
            assert isinstance(kind, NextToken)
            rows = ours.states(position, ours.arrays_of(name))
            ids, values = kind.unpack(rows, records[name], ours.manifest.teacher)
            for t in range(len(ids)):
                found_ids, found = named[given](group, row + t, vocabulary)
                assert found_ids.tolist() == ids[t, : len(found_ids)].tolist()
                np.testing.assert_allclose(found, values[t, : len(found)], rtol=1e-6)
                assert not values[t, len(found) :].any()
        row += len(ids)
    assert row > 100 and len(list(group)) == 2


def test_the_readme_of_the_format_names_every_file_and_field(cache: Path) -> None:
    text = (ROOT / "schemas/cache/README.md").read_text(encoding="utf-8")
    names = {path.name for path in cache.rglob("*") if path.suffix in (".json", ".arrow", ".parquet", ".safetensors")}
    names |= {*SAMPLES_SCHEMA.names, *INDEX_SCHEMA.names, *CacheManifest.model_fields, *TeacherRecord.model_fields}
    names |= {*ShardRecord.model_fields, *ArrayRecord.model_fields, *KINDS}
    assert {name for name in names - {"tokenizer_config.json", "special_tokens_map.json"} if name not in text} == set()


def test_that_needs_nothing_of_ours(cache: Path) -> None:
    code = (
        "import sys, zarr, pyarrow as pa\n"
        f"shard = {str(cache / 'shards/00000')!r}\n"
        "rows = pa.ipc.open_file(shard + '/samples.arrow').read_all().num_rows\n"
        "group = zarr.open_group(shard + '/states.zarr', mode='r')\n"
        "print(rows, sorted(group), group['mass/3'].shape[0])\n"
        "assert not {'schemas', 'trainer', 'pipeline', 'torch'} & {m.split('.')[0] for m in sys.modules}\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    record = json.loads((cache / "shards/00000/shard.json").read_text())
    assert done.stdout.split("\n")[0] == f"{record['samples']} ['hidden', 'mass'] {record['tokens']}"


def test_duckdb_reads_the_index(cache: Path) -> None:
    found = duckdb.execute(
        f"SELECT shard, count(*), sum(tokens) FROM '{cache / 'index.parquet'}' GROUP BY shard ORDER BY shard"
    ).fetchall()
    records = [json.loads(path.read_text()) for path in sorted(cache.glob("shards/*/shard.json"))]
    assert found == [(number, record["samples"], record["tokens"]) for number, record in enumerate(records)]
    assert sum(row[1] for row in found) == len(TEXTS)


def test_distributions_of_format_1_are_still_proven() -> None:
    verify_cache(GOLDEN.parent / "cache-1-sparse")


def test_format_1_as_it_was_released_is_still_read() -> None:
    """Numbers written down when the format was: a reader that changes them breaks every cache there is."""
    verify_cache(GOLDEN)
    cache = Cache(GOLDEN)
    expected = json.loads((GOLDEN.parent / "cache-1.json").read_text())
    assert cache.manifest.fingerprint == expected["fingerprint"]
    for position, wanted in enumerate(expected["samples"]):
        sample = cache.sample(position)
        assert sample.id == wanted["id"] and sample.text == wanted["text"] and sample.turns == ()
        assert sample.targets.tolist() == [[wanted["prompt_end"], len(wanted["text"])]]
        assert sample.token_ids.tolist() == wanted["token_ids"]
        assert sample.token_offsets.tolist() == wanted["token_offsets"]
        assert sample.words.tolist() == wanted["words"]
        assert sample.noun_phrases.tolist() == wanted["noun_phrases"]
        hidden, mass = cache.states(position, [cache.array("hidden", 1), cache.array("mass", 1)])
        widened = (hidden.astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_array_equal(widened[0, :4], np.array(wanted["hidden_start"], np.float32))
        np.testing.assert_allclose(mass, wanted["mass"], rtol=1e-6)
