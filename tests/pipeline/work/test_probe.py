"""What a probe foresees is what an extraction comes to."""

import random
from pathlib import Path

import pytest

from pipeline.request.request import make_request
from pipeline.work.probe import _proof_seconds, run_probe
from pipeline.work.worker import UnitReport
from schemas.cache.reader import Cache
from schemas.cache.shard import STATES, ShardRecord, read_shard, shard_path
from schemas.cache.states import array_files
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CorpusError
from tests.caches import build_cache, encoded_extraction, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


def written(config: ExtractionConfig) -> tuple[int, dict[str, int], int]:
    """Tokens, bytes by array and bytes of all shards, of a real extraction."""
    cache = Cache(build_cache(config))
    shards = [shard_path(cache.path, unit) for unit in range(cache.manifest.units)]
    records = [read_shard(shard, cache.fingerprint) for shard in shards]
    sizes = {
        array.path: sum(r.files[f"{STATES}/{name}"].bytes for r in records for name in array_files(array))
        for array in cache.manifest.arrays
    }
    total = sum(path.stat().st_size for shard in shards for path in shard.rglob("*") if path.is_file())
    return int(cache.tokens.sum()), sizes, total


def test_a_small_corpus_is_counted_whole(tmp_path: Path) -> None:
    config = encoded_extraction(tmp_path)
    found = run_probe(make_request(config), seconds=60)
    tokens, sizes, total = written(config)
    assert found.share == 1 and found.tokens == tokens and found.samples == len(TEXTS)
    assert found.array_rows == dict.fromkeys(("hidden/1", "hidden/3", "mass/3"), tokens)
    assert found.array_bytes == pytest.approx(sizes, rel=0.01)
    assert found.shard_bytes == pytest.approx(total, rel=0.05)
    for folder, size in (("teacher", found.teacher_bytes), ("codecs", found.codec_bytes)):
        assert sum(path.stat().st_size for path in (config.output / folder).rglob("*") if path.is_file()) == size
    assert found.positions >= found.tokens and found.forward_seconds > 0 and found.seconds(2) == found.seconds(1) / 2


def test_of_a_large_corpus_some_units_tell(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    words, chance = " ".join(TEXTS[:8]).split(), random.Random(0)
    texts = [" ".join(chance.choices(words, k=chance.randint(5, 25))) for _ in range(300)]
    corpus = write_corpus(tmp_path / "corpus.jsonl", texts)
    states = {"hidden": [3], "mass": [], "rows": "targets"}
    config = extraction(tmp_path / "cache", tmp_path / "teacher", corpus, states=states)
    found = run_probe(make_request(config), seconds=0.01, units=12)
    tokens, sizes, total = written(config)
    assert 0.3 < found.share < 0.8 and 0 < found.tokens_run < tokens
    assert found.tokens == pytest.approx(tokens, rel=0.02) and tokens > 4_000
    assert found.array_bytes["hidden/3"] == pytest.approx(sizes["hidden/3"], rel=0.02)
    assert found.shard_bytes == pytest.approx(total, rel=0.05)


def test_a_corpus_of_nothing_is_refused(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:3])
    settings = {"teacher": {"max_tokens": 2}, "corpus": {"overlong": "skip"}}
    with pytest.raises(CorpusError, match=r"no sample that was looked at is short enough: raise teacher\.max_tokens"):
        run_probe(make_request(extraction(tmp_path / "cache", tmp_path / "teacher", corpus, **settings)))


def test_the_proof_of_the_first_shard_is_of_the_start() -> None:
    record = ShardRecord(fingerprint="f", unit=0, samples=1, tokens=1, files={}, truncated=0, overlong=0)
    seconds, positions = (9.0, 1.0, 2.0), (100, 50, 100)
    reports = [UnitReport(record, 1, write_seconds=s, positions=p) for s, p in zip(seconds, positions, strict=True)]
    assert _proof_seconds(reports) == 9 - 100 * 3 / 150
    assert _proof_seconds(reports[:1]) == 0 and _proof_seconds([reports[1], reports[0]]) == 0
