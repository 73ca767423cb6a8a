"""Alignment quality against plain loops over the two tokenizers, and what a run does with it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.cache.targets import NO_TARGETS, response_targets
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.caches import build_cache, extraction, write_corpus
from tests.crash import interrupt
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.alignment.labels import SpanChoice, label_spans
from trainer.alignment.quality import (
    AlignmentQuality,
    LevelQuality,
    _share,
    _tokens_inside,
    measure_alignment,
    measure_vocabulary,
    require_alignment,
)
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import canonical_pieces
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

# A prompt that fills 24 tokens, and a response of which a lower-casing tokenizer that drops controls keeps nothing.
LONG_PROMPT = "because-nobody-else-wanted-it-because-nobody-else-wanted-it-because-nobody-else-wanted-it yes"
DROPPED = "dropped \x01\x02"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("alignment")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    tiny_tokenizer(folder / "lower", "wordpiece")
    corpus = write_corpus(folder / "corpus.jsonl", [*TEXTS, LONG_PROMPT, DROPPED])
    return Cache(build_cache(extraction(folder / "cache", folder / "teacher", corpus)))


def tokenizer_of(cache: Cache, name: str, max_tokens: int = 1024) -> StudentTokenizer:
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / name)
    return StudentTokenizer(tokenizer, max_tokens, append_eos=False)


def plain(cache: Cache, name: str, max_tokens: int) -> AlignmentQuality:
    """From the teacher's and the student's own offsets, one character at a time."""
    covered, spans, agreed, skipped = [], [], [], dict[Any, int]()
    sides = [AutoTokenizer.from_pretrained(cache.path.parent / side) for side in ("teacher", name)]
    for position in range(len(cache)):
        sample = cache.sample(position)
        ranges: list[list[tuple[int, int]]] = []
        for tokenizer, limit in zip(sides, (10**6, max_tokens), strict=True):
            encoded = tokenizer(sample.text, return_offsets_mapping=True)
            ranges.append([(a, b) for a, b in encoded["offset_mapping"][:limit] if a < b])
        ends = set.intersection(*({b for _, b in side} for side in ranges))
        inside = {e for a, b in ranges[0] + ranges[1] for e in range(a + 1, b)}
        boundaries = [e for e in sorted(ends - inside) if e > sample.targets[0, 0]]
        spans.append(len(boundaries))
        fewer = min(sum(b > sample.targets[0, 0] for _, b in side) for side in ranges)
        agreed += [len(boundaries) / fewer] if fewer else []
        last = max(boundaries, default=sample.targets[0, 0])
        covered.append((last - sample.targets[0, 0]) / (len(sample.text) - sample.targets[0, 0]))
        if not boundaries:
            cut = len(sides[1](sample.text)["input_ids"]) > max_tokens
            skipped["cut" if cut else "no_common_end"] = skipped.get("cut" if cut else "no_common_end", 0) + 1
    count = len(cache)
    return AlignmentQuality(
        count, sum(covered) / count, min(covered), sum(spans) / count, skipped, sum(agreed) / len(agreed)
    )


@pytest.mark.parametrize("max_tokens", [1024, 24, 8, 2])
@pytest.mark.parametrize("name", ["other", "lower", "teacher"])
def test_it_is_what_plain_loops_find(cache: Cache, name: str, max_tokens: int) -> None:
    found = measure_alignment(cache, tokenizer_of(cache, name, max_tokens), 10**6, seed=0)
    wanted = plain(cache, name, max_tokens)
    assert (found.samples, found.skipped) == (wanted.samples, wanted.skipped)
    assert found.coverage_mean == pytest.approx(wanted.coverage_mean, abs=1e-12)
    assert found.coverage_min == pytest.approx(wanted.coverage_min, abs=1e-12)
    assert found.spans_mean == pytest.approx(wanted.spans_mean, abs=1e-12)
    assert found.agreement == pytest.approx(wanted.agreement, abs=1e-12)


def test_why_a_sample_has_no_span(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_alignment(cache, tokenizer_of(cache, "other"), 10**6, 0).skipped == {}
    assert measure_alignment(cache, tokenizer_of(cache, "other", 24), 10**6, 0).skipped == {"cut": 1}
    assert measure_alignment(cache, tokenizer_of(cache, "lower"), 10**6, 0).skipped == {"no_common_end": 1}
    read = cache.sample

    def without_response(position: int) -> Any:
        sample = read(position)
        return replace(sample, targets=NO_TARGETS) if position < 2 else sample

    monkeypatch.setattr(cache, "sample", without_response)  # extraction leaves such records out
    quality = measure_alignment(cache, tokenizer_of(cache, "other"), 10**6, 0)
    assert (quality.skipped, quality.coverage_min) == ({"empty_response": 2}, 0.0)


def test_responses_that_are_all_empty(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    read = cache.sample

    def without_response(position: int) -> CachedSample:
        sample = read(position)
        return replace(sample, targets=NO_TARGETS)

    monkeypatch.setattr(cache, "sample", without_response)
    found = measure_alignment(cache, tokenizer_of(cache, "other"), 3, 0)
    assert found == AlignmentQuality(3, 0.0, 0.0, 0.0, {"empty_response": 3}, 0.0, {})


def test_units_are_named_by_what_was_asked_for(cache: Cache) -> None:
    asked: dict[str, SpanChoice] = {
        "word": SpanChoice("word", "response"),
        "word/text": SpanChoice("word", "text"),
        "phrase": SpanChoice("phrase", "response", ("noun", "verb")),
        "phrase/noun": SpanChoice("phrase", "response", ("noun",)),
        "phrase/verb/text": SpanChoice("phrase", "text", ("verb",)),
        "aligned": SpanChoice("aligned", "response"),
    }
    student = tokenizer_of(cache, "other")
    found = measure_alignment(cache, student, 10**6, 0, asked.values()).levels
    assert list(found) == ["phrase", "phrase/noun", "phrase/verb/text", "word", "word/text"]
    for name, level in found.items():
        counts = []
        for position in range(len(cache)):
            sample = cache.sample(position)
            counts.append(label_spans(asked[name], sample, *student([sample]))[2])
        assert level.spans_mean == pytest.approx(sum(counts) / len(counts)) and level.without == counts.count(0)
    assert found["word/text"].spans_mean > found["word"].spans_mean > found["phrase/noun"].spans_mean > 0


def quality(coverage: float = 0.9, agreement: float = 0.6, **without: int) -> AlignmentQuality:
    levels = {name: LevelQuality(1.0, count) for name, count in without.items()}
    return AlignmentQuality(2000, coverage, 0.1, 3.0, {}, agreement, levels)


def test_what_is_enough_is_accepted() -> None:
    require_alignment(quality(), Path("/c"), 0.9, 0.6)
    require_alignment(quality(word=1999), Path("/c"), 0.0, 0.0)


@pytest.mark.parametrize(("coverage", "agreement", "name"), [(0.91, 0.6, "min_coverage"), (0.9, 0.61, "min_agreement")])
def test_too_little_is_refused_in_one_message(coverage: float, agreement: float, name: str) -> None:
    with pytest.raises(RunError) as refused:
        require_alignment(quality(), Path("/c"), coverage, agreement)
    least = "91%" if name == "min_coverage" else "61%"
    assert str(refused.value) == (
        f"the tokens of student and teacher hardly align over /c: {quality()}. Training refuses below {least} "
        f"({name}). Raise student.max_tokens if samples are cut, give the student a tokenizer that keeps the text as "
        f"it is and cuts it more alike, take losses without a teacher, or lower {name}"
    )


def test_a_unit_that_is_nowhere_is_refused_in_one_message() -> None:
    with pytest.raises(RunError) as refused:
        require_alignment(quality(word=0, phrase=2000), Path("/c"), 0.0, 0.0)
    assert str(refused.value) == (
        "a loss asks for spans at level phrase, and none of 2,000 samples of /c has one with tokens on both sides: it "
        "would learn nothing. Extract into a new output with another annotator, or raise student.max_tokens"
    )


def test_one_tokenizer_aligns_token_by_token(cache: Cache) -> None:
    quality = measure_alignment(cache, tokenizer_of(cache, "teacher"), 10**6, 0)
    assert (quality.coverage_mean, quality.coverage_min, quality.skipped) == (1.0, 1.0, {})
    assert 0.95 < quality.agreement < 1  # tokens that share a character share a span


def test_a_part_of_the_samples_is_drawn_by_the_seed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    read, drawn = cache.sample, list[int]()

    def watched(position: int) -> CachedSample:
        drawn.append(position)
        return read(position)

    monkeypatch.setattr(cache, "sample", watched)
    first, again, other = (measure_alignment(cache, tokenizer_of(cache, "other"), 20, seed) for seed in (3, 3, 4))
    assert first.samples == 20 and first == again
    assert drawn[:20] == drawn[20:40] == sorted(set(drawn[:20]))
    assert drawn[40:] != drawn[:20] and other.samples == 20


@pytest.mark.parametrize("name", ["other", "lower", "teacher"])
def test_the_share_of_the_texts_that_both_vocabularies_can_say(cache: Cache, name: str) -> None:
    student, teacher = (AutoTokenizer.from_pretrained(cache.path.parent / side) for side in (name, "teacher"))
    found = measure_vocabulary(cache, tokenizer_of(cache, name), teacher, 10**6, seed=0)
    pieces = [canonical_pieces(tokenizer) for tokenizer in (student, teacher)]
    both = {p for p in pieces[0] if p is not None} & {p for p in pieces[1] if p is not None}
    for tokenizer, spelt, share in zip(
        (student, teacher), pieces, (found.student_tokens, found.teacher_tokens), strict=True
    ):
        said = tokens = 0
        for position in range(len(cache)):
            encoded = tokenizer(cache.sample(position).text, return_offsets_mapping=True)
            for token, (a, b) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                tokens += a < b
                said += a < b and spelt[token] in both
        assert share == pytest.approx(said / tokens, abs=1e-12)
    assert found.shared == len(both) + (student.eos_token_id is not None)
    assert (found.student_size, found.teacher_size) == (len(student), len(teacher))


def test_a_special_token_within_a_target_does_not_count() -> None:
    """An empty range behind the start, as a tokenizer's that trims white space."""
    offsets = np.array([[0, 0], [0, 3], [3, 4], [5, 5], [4, 6]], np.int32)
    counts = [_tokens_inside(offsets, response_targets(start, 6)) for start in (0, 3, 4, 6)]
    assert [count.tolist() for count in counts] == [[3], [2], [1], []]
    assert _tokens_inside(offsets, np.array([[0, 3], [4, 6]])).tolist() == [1, 1]


def test_of_no_tokens_none_are_shared() -> None:
    ids = np.array([1, 3])
    assert _share(np.array([], np.int64), ids) == 0
    assert _share(np.array([3, 2, 1, 1]), ids) == 0.75 and type(_share(ids, ids)) is float


def test_one_line() -> None:
    levels = {"phrase": LevelQuality(3.5, 7)}
    quality = AlignmentQuality(1200, 0.98765, 0.25, 41.26, {"cut": 3, "no_common_end": 1}, 0.75, levels)
    assert str(quality) == (
        "98.8% of the response covered (worst sample 25.0%), 41.3 spans per sample, "
        "0.75 per token of the coarser side, 4 of 1,200 samples without any: 3 are cut by max_tokens before it, "
        "1 have no end of a token in common"
    )
    assert str(replace(quality, skipped={})).endswith("of the coarser side, all of 1,200 samples have spans")
    assert quality.metrics() == {
        "align/coverage": 0.98765,
        "align/coverage_min": 0.25,
        "align/agreement": 0.75,
        "align/spans": 41.26,
        "align/skipped/empty_response": 0.0,
        "align/skipped/cut": 3.0,
        "align/skipped/no_common_end": 1.0,
        "align/phrase/spans": 3.5,
        "align/phrase/without": 7.0,
    }


def config(cache: Cache, output: Path, **changes: Any) -> TrainingConfig:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    student = {"architecture": {"model_type": "llama", **size}, "tokenizer": str(cache.path.parent / "other")}
    base: dict[str, Any] = {"cache": cache.path, "output": output, "student": student, "objective": [{"loss": "sra"}]}
    base |= {"steps": 3, "batch_size": 4, "threads": 1, "checkpoint_every": 2, "log_every": 1, "device": "cpu"}
    return TrainingConfig.model_validate(base | changes)


def short(cache: Cache, output: Path) -> dict[str, Any]:
    return config(cache, output).student.model_dump() | {"max_tokens": 8}


def test_a_run_reports_it_before_its_first_step(cache: Cache, tmp_path: Path) -> None:
    train(config(cache, tmp_path / "run"))
    lines = read_metrics(tmp_path / "run")
    quality = measure_alignment(cache, tokenizer_of(cache, "other"), 1000, 0)
    assert lines[0] == {"step": 0} | quality.metrics()
    assert [line["step"] for line in lines] == [0, 1, 2, 3]


@pytest.mark.parametrize("step", [1, 2])
def test_it_is_reported_once_however_often_a_run_starts(cache: Cache, tmp_path: Path, step: int) -> None:
    """Killed before its first checkpoint and after it."""
    interrupt(config(cache, tmp_path / "run"), step)
    train(config(cache, tmp_path / "run"))
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2, 3] and "align/coverage" in lines[0]


def test_too_little_coverage_is_refused_with_the_numbers(cache: Cache, tmp_path: Path) -> None:
    cut = short(cache, tmp_path / "run")
    quality = measure_alignment(cache, tokenizer_of(cache, "other", 8), 1000, 0)
    assert quality.coverage_mean < 0.5
    with pytest.raises(RunError) as caught:
        train(config(cache, tmp_path / "run", student=cut))
    assert str(quality) in str(caught.value)
    assert "refuses below 50% (min_coverage). Raise student.max_tokens" in str(caught.value)
    assert not (tmp_path / "run").exists()
    train(config(cache, tmp_path / "run", student=cut, min_coverage=quality.coverage_mean - 1e-6))
    assert train(config(cache, tmp_path / "run", student=cut, min_coverage=0)).already_done  # not another run


@pytest.mark.parametrize("objective", [[{"loss": "ce"}], [{"loss": "sra", "weight": 0}, {"loss": "ce"}]])
def test_cross_entropy_alone_is_never_refused(cache: Cache, tmp_path: Path, objective: list[dict[str, Any]]) -> None:
    train(config(cache, tmp_path / "run", student=short(cache, tmp_path), objective=objective))
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2, 3] and lines[0]["align/coverage"] < 0.5


@pytest.mark.parametrize("loss", ["kd", "mined", "uld", "multilevel_ot", "mta"])
def test_whatever_reads_the_teacher_is_refused_where_little_of_it_is_seen(
    cache: Cache, tmp_path: Path, loss: str
) -> None:
    student = short(cache, tmp_path) | ({"tokenizer": "teacher"} if loss == "kd" else {})
    layers = {"student_layers": {"top": 2}} if loss == "mta" else {}
    with pytest.raises(RunError, match=r"refuses below 50% \(min_coverage\)"):
        train(config(cache, tmp_path / "run", student=student, objective=[{"loss": loss, **layers}]))
    with pytest.raises(RunError, match=r"refuses below 99% \(min_agreement\)"):
        objective = [{"loss": "sra"}]
        train(config(cache, tmp_path / "run", objective=objective, min_agreement=0.99))


def test_the_units_of_a_loss_are_measured_too(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = [{"loss": "mta", "student_layers": {"top": 2}}, {"loss": "sra", "spans": "word"}]
    train(config(cache, tmp_path / "run", objective=objective))
    found = read_metrics(tmp_path / "run")[0]
    sides = [AutoTokenizer.from_pretrained(cache.path.parent / side) for side in ("teacher", "other")]
    words: list[int] = []
    for position in range(len(cache)):
        sample, ends = cache.sample(position), list[list[int]]()
        for tokenizer in sides:
            offsets = tokenizer(sample.text, return_offsets_mapping=True)["offset_mapping"]
            ends.append([b for a, b in offsets if a < b])
        of_response = [(start, end) for start, end in sample.words.tolist() if start >= sample.targets[0, 0]]
        words.append(sum(all(any(start < b <= end for b in side) for side in ends) for start, end in of_response))
    assert found["align/word/spans"] == pytest.approx(sum(words) / len(words))
    assert found["align/word/without"] == words.count(0)
    assert {"align/phrase/text/spans", "align/phrase/text/without"} <= found.keys()

    none = np.empty((0, 2), np.int32)
    read = Cache.sample
    monkeypatch.setattr(
        Cache, "sample", lambda self, place: replace(read(self, place), noun_phrases=none, verb_phrases=none)
    )
    with pytest.raises(RunError, match=r"asks for spans at level phrase/text, and none of 57 samples of .* has one"):
        train(config(cache, tmp_path / "other", objective=objective))


def test_samples_that_begin_twice_for_the_student_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The teacher adds no beginning; the student's own tokenizer adds one to a text that spells it."""
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bytelevel"))
    own = tiny_tokenizer(tmp_path / "other", "bpe")
    assert own.bos_token == "<s>" and own("a")["input_ids"][0] == own.bos_token_id
    corpus = write_corpus(tmp_path / "corpus.jsonl", [*TEXTS, "<s> The end", "<s>It ends", "It <s> ends"])
    made = Cache(build_cache(extraction(tmp_path / "cache", tmp_path / "teacher", corpus)))
    found = {name: measure_alignment(made, tokenizer_of(made, name), 1000, 0) for name in ("other", "teacher")}
    assert (found["other"].begin_twice, found["teacher"].begin_twice) == (2, 0)
    said = f"2 of {len(made)} samples begin twice: their text spells out the beginning of sequence (BOS) that the"
    train(config(made, tmp_path / "run", steps=1))
    assert [record.getMessage() for record in caplog.records if said in record.getMessage()]
    caplog.clear()
    teachers = {"student": config(made, tmp_path).student.model_dump() | {"tokenizer": "teacher"}}
    train(config(made, tmp_path / "teachers", steps=1, **teachers))
    assert "begin twice" not in caplog.text
