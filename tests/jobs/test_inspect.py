"""`stillroom inspect`, with and without a student, in this process and with what it prints read back."""

import json
import re
from pathlib import Path

import pytest

from schemas.cache.reader import Cache
from schemas.cache.token_rows import count_rows
from tests.caches import build_cache, extraction, small_cache, write_corpus
from tests.jobs.inspecting import Command, inspecting
from tests.tiny import TEXTS, tiny_bert, tiny_tokenizer
from trainer.alignment.quality import measure_alignment, measure_vocabulary
from trainer.alignment.student_text import StudentTokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    small_cache(folder)
    return folder


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    run = inspecting(monkeypatch, capsys)
    return lambda *arguments: " ".join(run(*arguments).split())


def test_a_cache_is_shown_with_its_first_sample(made: Path, inspect: Command) -> None:
    cache = Cache(made / "cache")
    shown = inspect(made / "cache")
    assert f"samples {len(cache)} in {cache.manifest.units} shards" in shown
    assert f"tokens {int(cache.tokens.sum()):,}, at most 96 per sample" in shown
    assert "sample s0:" in shown and "shared vocabulary" not in shown
    assert "verb phrases; shown: [noun phrase], {verb phrase}, what is not learnt dim" in shown


def test_where_students_cut_goes_with_a_student(made: Path, inspect: Command) -> None:
    with pytest.raises(RuntimeError, match=r"^stillroom: --max-tokens is where .* give --student too, or leave it out"):
        inspect(made / "cache", "--max-tokens", 8)


def test_a_cache_of_target_rows_says_how_many_there_are(made: Path, tmp_path: Path, inspect: Command) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["one two three", "four five six"])
    config = extraction(tmp_path / "cache", made / "teacher", corpus, states={"rows": "targets", "hidden": [1]})
    cache = Cache(build_cache(config))
    rows = [count_rows(cache.sample(position).token_rows) for position in range(2)]
    kept, tokens = sum(rows), int(cache.tokens.sum())
    assert 0 < kept < tokens
    shown = inspect(tmp_path / "cache")
    assert f"{100 * kept / tokens:.1f}% have rows: targets and the tokens before them" in shown
    assert f"hidden/1 │ [{kept}, 32] │" in shown and f"mass/1 │ [{tokens}] │" in shown


def test_an_id_is_no_markup(made: Path, tmp_path: Path, inspect: Command) -> None:
    record = {"id": "doc [/INST] [bold] :cat:", "prompt": "", "text": TEXTS[0]}
    (tmp_path / "corpus.jsonl").write_text(json.dumps(record) + "\n")
    build_cache(extraction(tmp_path / "cache", made / "teacher", tmp_path / "corpus.jsonl"))
    assert "sample doc [/INST] [bold] :cat::" in inspect(tmp_path / "cache")


@pytest.mark.parametrize("max_tokens", [1024, 8])
def test_a_student_is_shown_by_what_it_shares(made: Path, inspect: Command, max_tokens: int) -> None:
    from transformers import AutoTokenizer

    cache = Cache(made / "cache")
    student, teacher = (AutoTokenizer.from_pretrained(made / name) for name in ("other", "teacher"))
    text_tokenizer = StudentTokenizer(student, max_tokens, append_eos=False)
    quality = measure_alignment(cache, text_tokenizer, 1000, 0)
    vocabulary = measure_vocabulary(cache, text_tokenizer, teacher, 1000, 0)
    shown = inspect(made / "cache", "--student", made / "other", "--max-tokens", max_tokens)
    assert "its tokenizer is another than the teacher's" in shown
    assert f"measured {len(cache)} of {len(cache)} samples, cut at {max_tokens:,} student tokens" in shown
    assert (
        f"shared vocabulary {vocabulary.shared} tokens: {vocabulary.shared / 320:.1%} of the student's 320, "
        f"{vocabulary.shared / len(teacher):.1%} of the teacher's {len(teacher)}"
    ) in shown
    assert (
        f"shared in the texts {vocabulary.student_tokens:.1%} of the student's tokens, "
        f"{vocabulary.teacher_tokens:.1%} of the teacher's"
    ) in shown
    assert f"aligned spans {quality.spans_mean:.1f} per sample" in shown
    assert f"covered by spans {quality.coverage_mean:.1%} of the response, {quality.coverage_min:.1%} in" in shown
    without = re.search(r"samples without spans (\d+)(; \d+ are cut by max_tokens before it)?", shown)
    assert without is not None and int(without[1]) == sum(quality.skipped.values())
    assert bool(without[2]) == bool(quality.skipped)


def test_the_teachers_own_tokenizer(made: Path, inspect: Command) -> None:
    shown = inspect(made / "cache", "--student", made / "teacher")
    assert "its tokenizer is the teacher's" in shown
    assert "covered by spans 100.0% of the response, 100.0% in the worst sample" in shown


def test_what_cannot_be_inspected_is_refused(made: Path, tmp_path: Path, inspect: Command) -> None:
    with pytest.raises(RuntimeError, match="there is no model folder /nowhere"):
        inspect(made / "cache", "--student", "/nowhere")
    with pytest.raises(RuntimeError, match="not a stillroom cache"):
        inspect(made, "--student", made / "other")


def test_a_cache_without_tokens_fits_any_student(tmp_path: Path, inspect: Command) -> None:
    tiny_bert(tmp_path / "encoder", tiny_tokenizer(tmp_path / "encoder", "wordpiece"))
    sections = {"teacher": {"kind": "encoder"}, "states": {"hidden": [], "mass": [], "pooled": {"pooling": "mean"}}}
    build_cache(
        extraction(tmp_path / "cache", tmp_path / "encoder", write_corpus(tmp_path / "corpus.jsonl"), **sections)
    )
    with pytest.raises(RuntimeError, match="keeps sentence embeddings and no tokens"):
        inspect(tmp_path / "cache", "--student", tmp_path / "encoder")
    assert "sample s0: 67 characters The old miller" in inspect(tmp_path / "cache")


def test_a_student_that_begins_texts_twice_is_told_so(made: Path, tmp_path: Path, inspect: Command) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["<s>The old miller", "A small grey cat"])
    build_cache(extraction(tmp_path / "cache", made / "teacher", corpus))
    shown = inspect(tmp_path / "cache", "--student", made / "teacher")
    assert "note 1 of 2 samples begin twice" in shown
    assert "begin twice" not in inspect(tmp_path / "cache", "--student", made / "other")


def test_a_sample_is_shown_as_a_student_aligns_with_it(made: Path, inspect: Command) -> None:
    from transformers import AutoTokenizer

    cache, tokenizer = Cache(made / "cache"), AutoTokenizer.from_pretrained(made / "other")
    for sample in filter(lambda sample: sample.text.isascii(), map(cache.sample, range(len(cache)))):
        student = tokenizer(sample.text, return_offsets_mapping=True)
        ends = {int(end) for start, end in sample.token_offsets if end > max(start, sample.targets[0, 0])}
        others = {end for start, end in student["offset_mapping"] if end > max(start, sample.targets[0, 0])}
        common = ends & others
        if 1 < len(common) < max(len(ends), len(others)):
            break
    marked = "".join("|" * (place in common) + letter for place, letter in enumerate(f"{sample.text} "))
    shown = inspect(made / "cache", "--student", made / "other", "--sample", sample.id)
    assert 1 < len(common) < max(len(ends), len(others))
    assert (
        f"sample {sample.id}: {len(sample.token_ids)} tokens of the teacher's, {len(student['input_ids'])} of the "
        f"student's, {len(common)} aligned spans; shown: | where a span ends, what is not learnt dim"
    ) in shown
    assert shown.endswith(" ".join(marked.split()))
    with pytest.raises(RuntimeError, match="holds no sample 'nosuch'"):
        inspect(made / "cache", "--student", made / "other", "--sample", "nosuch")


def test_several_caches_are_shown_as_they_are_read_together(made: Path, tmp_path: Path, inspect: Command) -> None:
    texts = (made / "corpus.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "more.jsonl").write_text(texts[1] + '{"id": "new", "prompt": "", "text": "A new text."}\n')
    more = build_cache(extraction(tmp_path / "more", made / "teacher", tmp_path / "more.jsonl"))
    shown, cache = inspect(made / "cache", more, "--sample", "new"), Cache(made / "cache")
    tokens, new = int(cache.tokens.sum()), int(Cache(more).tokens[1])
    assert f"{cache.fingerprint[:16]} │ {len(cache)} │ {len(cache)} │ {tokens:,}" in shown
    assert f"{Cache(more).fingerprint[:16]} │ 2 │ 1 │ {new}" in shown
    assert f"together │ │ {len(cache) + 2} │ {len(cache) + 1} │ {tokens + new:,}" in shown
    assert "sample new: 11 characters" in shown
    fitted = inspect(made / "cache", more, "--student", made / "other")
    assert f"of {len(cache) + 1} samples" in fitted
    with pytest.raises(RuntimeError, match="are the same cache; name it once"):
        inspect(made / "cache", made / "cache")
