"""The plan: units are runs of the corpus in order, a pure function of it."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from pipeline.corpus.calibration import CalibrationSize
from pipeline.corpus.corpus import Corpus, read_corpus
from pipeline.corpus.plan import Plan, Unit, make_plan, predict_bytes
from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import CorpusRecord
from schemas.configs.extraction import BatchingConfig, CorpusConfig
from schemas.errors import CorpusError
from tests.caches import write_corpus
from tests.corpora import write_lines
from tests.tiny import TEXTS, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def corpus_of(path: Path, texts: list[str]) -> Corpus:
    write_lines(path, [{"id": i, "t": text} for i, text in enumerate(texts)])
    return read_corpus(CorpusConfig(files=[str(path)], text="t", id="id"))


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["C"]), max_size=40), min_size=1, max_size=30),
    unit_tokens=st.integers(1, 60),
)
def test_units_are_the_corpus_in_order(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory, texts: list[str], unit_tokens: int
) -> None:
    texts = [*texts, "never blank"]
    corpus = corpus_of(tmp_path_factory.mktemp("c") / "c.jsonl", texts)
    plan = make_plan(corpus, tokenizer, BatchingConfig(unit_tokens=unit_tokens), max_tokens=8)
    units = list(plan.read_units(corpus))
    assert [sample for _, samples in units for sample in samples] == list(corpus)
    assert [unit for unit, _ in units] == list(plan.units)
    first = 0
    for number, (unit, samples) in enumerate(units):
        assert (unit.number, unit.first, unit.samples) == (number, first, len(samples))
        assert unit.samples == 1 or unit.tokens <= unit_tokens
        assert unit.tokens <= 8 * unit.samples
        assert unit.text_bytes == sum(len(sample.text.encode()) for sample in samples)
        first += unit.samples
    kept = [text for text in texts if text.strip()]
    assert (plan.samples, plan.corpus.empty) == (len(kept), len(texts) - len(kept)) and first == len(kept)
    every_second = set(range(0, len(units), 2))
    assert list(plan.read_units(corpus, skip=every_second)) == [u for u in units if u[0].number not in every_second]


def test_tokens_are_estimated_well_and_units_are_of_about_one_size(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    corpus = corpus_of(tmp_path / "c.jsonl", TEXTS * 8)
    plan = make_plan(corpus, tokenizer, BatchingConfig(unit_tokens=500))
    truth = sum(len(ids) for ids in tokenizer([s.text for s in corpus])["input_ids"])
    assert plan.tokens == pytest.approx(truth, rel=0.05)
    assert all(400 <= unit.tokens <= 500 for unit in plan.units[:-1])


def test_the_hash_knows_content_and_not_its_cut(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def plan(name: str, texts: list[str], unit_tokens: int = 100) -> Plan:
        return make_plan(corpus_of(tmp_path / name, texts), tokenizer, BatchingConfig(unit_tokens=unit_tokens))

    base = plan("a.jsonl", TEXTS)
    assert plan("b.jsonl", TEXTS) == base
    assert plan("c.jsonl", TEXTS, 50).corpus == base.corpus and len(plan("c.jsonl", TEXTS, 50).units) > len(base.units)
    assert plan("d.jsonl", [*TEXTS[:-1], "other"]).corpus.sha256 != base.corpus.sha256
    assert plan("e.jsonl", TEXTS[::-1]).corpus.sha256 != base.corpus.sha256


def test_a_corpus_that_changes_under_the_plan_is_noticed(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "c.jsonl", TEXTS)
    plan = make_plan(corpus, tokenizer, BatchingConfig(unit_tokens=200))
    corpus_of(tmp_path / "c.jsonl", [*TEXTS[:-1], "changed"])
    last = plan.units[-1]
    with pytest.raises(
        CorpusError, match=rf"has changed since it was planned \(samples {last.first} to {len(TEXTS) - 1}"
    ):
        list(plan.read_units(corpus))
    assert len(list(plan.read_units(corpus, skip={last.number}))) == len(plan.units) - 1


def test_a_corpus_without_samples_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no records: .*c\.jsonl"):
        make_plan(corpus_of(tmp_path / "c.jsonl", []), tokenizer, BatchingConfig())
    with pytest.raises(CorpusError, match="every record of the corpus is blank in 't'"):
        make_plan(corpus_of(tmp_path / "c.jsonl", [" ", "\n"]), tokenizer, BatchingConfig())


def test_an_id_given_twice_stops_the_plan(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [{"id": "x", "t": "a"}, {"id": "x", "t": "b"}])
    with pytest.raises(CorpusError, match=rf"{path}:2 has the id 'x' that {path}:1 has already"):
        make_plan(read_corpus(CorpusConfig(files=[str(path)], text="t", id="id")), tokenizer, BatchingConfig())


def test_repeats_are_counted_and_in_no_unit(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def corpus(name: str, texts: list[str]) -> Corpus:
        path = write_lines(tmp_path / name, [{"t": text} for text in texts])
        return read_corpus(CorpusConfig(files=[str(path)], text="t", repeats="skip"))

    texts, batching = list(dict.fromkeys(TEXTS)), BatchingConfig(unit_tokens=100)
    once, twice = corpus("once.jsonl", texts), corpus("twice.jsonl", [*texts, " ", *texts[:5]])
    plain, plan = (make_plan(each, tokenizer, batching) for each in (once, twice))
    assert plan.units == plain.units and plain.corpus.repeated == 0
    assert plan.corpus == plain.corpus.model_copy(update={"empty": 1, "repeated": 5})
    assert list(plan.read_units(twice)) == list(plain.read_units(once))


def test_predicted_bytes_add_up() -> None:
    units = (Unit(0, 0, 2, 400, 100, ""), Unit(1, 2, 1, 100, 50, ""))
    plan = Plan(units, CorpusRecord(samples=3, empty=0, sha256=""))
    arrays = [
        ArrayRecord(kind="hidden", layer=1, width=8, dtype="bfloat16"),
        ArrayRecord(kind="mass", layer=1, width=None, dtype="float32"),
    ]
    assert predict_bytes(plan, arrays) == 150 * (16 + 4 + 20) + 500 + 3 * 100 + 2 * 8192
    assert predict_bytes(plan, arrays, units[1:]) == 50 * 40 + 100 + 100 + 8192
    pooled = ArrayRecord(kind="pooled", layer=1, width=8, dtype="float16", encoding="zstd")
    assert predict_bytes(plan, [*arrays, pooled]) == predict_bytes(plan, arrays) + round(3 * 16 * 0.92)
    assert predict_bytes(plan, [pooled]) == round(500 * 0.36 + 3 * (16 * 0.92 + 20)) + 2 * 8192
    draws = ArrayRecord(kind="sampled/draws", layer=1, width=50, dtype="uint8", encoding="draws")
    drawn = round(150 * (2 + 50 * 0.73 + 20) + 500 + 3 * 100 + 2 * 8192)
    assert predict_bytes(plan, [draws]) == drawn
    top_k = [
        ArrayRecord(kind="top_k/ids", layer=1, width=8, dtype="uint8"),
        ArrayRecord(kind="top_k/codes", layer=1, width=8, dtype="uint8"),
        ArrayRecord(kind="top_k/scales", layer=1, width=2, dtype="float16"),
    ]
    assert predict_bytes(plan, top_k) == 150 * (8 + 8 + 4 + 20) + 500 + 3 * 100 + 2 * 8192
    half = replace(plan, kept=0.5)  # masses and what lies beside states are of every token
    assert predict_bytes(half, arrays) == 150 * (8 + 4 + 20) + 500 + 3 * 100 + 2 * 8192


def test_the_share_of_tokens_that_targets_need_is_measured(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "t", "bytelevel")
    corpus = read_corpus(
        CorpusConfig(files=[str(write_corpus(tmp_path / "c.jsonl"))], prompt="prompt", response="text")
    )
    for limit in (10**6, 12, 4):
        tokens = kept = 0
        for sample in corpus:
            encoded = tokenizer(sample.text, return_offsets_mapping=True)
            learnt = [end > sample.targets[0][0] for _, end in encoded["offset_mapping"][:limit]]
            if any(learnt):  # otherwise the sample is left out of a cache
                tokens += len(learnt)
                kept += sum(here or after for here, after in zip(learnt, [*learnt[1:], True], strict=True))
        assert 0.4 < kept / tokens < 1
        assert make_plan(corpus, tokenizer, BatchingConfig(), limit, rows="targets").kept == kept / tokens
    assert make_plan(corpus, tokenizer, BatchingConfig()).kept == 1


@pytest.mark.parametrize("overlong", ["skip", "truncate"])
def test_codecs_are_calibrated_on_what_is_kept(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, overlong: Literal["skip", "truncate"]
) -> None:
    texts = [" ".join(TEXTS[:20]), *TEXTS[:12], " ".join(TEXTS[5:])]
    corpus = corpus_of(tmp_path / "c.jsonl", texts)
    corpus = replace(corpus, config=corpus.config.model_copy(update={"overlong": overlong}))
    plan = make_plan(corpus, tokenizer, BatchingConfig(), max_tokens=60, calibrate_on=CalibrationSize(1.0, 1, 10_000))
    chosen = {sample.id for sample in plan.calibration}
    long = {"0", str(len(texts) - 1)}
    assert chosen == {str(number) for number in range(len(texts))} - (long if overlong == "skip" else set())
    assert make_plan(corpus, tokenizer, BatchingConfig(), max_tokens=60).calibration == ()
