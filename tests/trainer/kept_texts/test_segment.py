"""A segment gives back what was written, bit for bit, and is refused if a single bit of it is another."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from schemas.cache.samples import CachedSample
from schemas.cache.targets import response_targets
from schemas.cache.token_rows import every_row
from schemas.errors import CacheError, TokenizerError
from tests.tiny import KINDS, TEXTS, tiny_tokenizer
from tests.trainer.alignment.samples import ranges
from tests.trainer.kept_texts.conversations import conversation_tokenizer, conversations
from tests.trainer.kept_texts.same import require_same
from trainer.alignment.labels import SpanChoice, label_spans
from trainer.alignment.student_text import StudentText, StudentTokenizer
from trainer.alignment.target_tokens import label_targets
from trainer.kept_texts.identity import digest_of
from trainer.kept_texts.segment import DamagedSegment, Segment, Texts, bytes_of, write_segment

CHOICES = [SpanChoice("aligned", "response"), SpanChoice("aligned", "text", (), 3), SpanChoice("word", "text")]
FRAGMENTS = [*TEXTS[:3], *TEXTS[-5:], "👩‍👩‍👧‍👦", "e\u0301", "ﬁ", "\r\n", "  ", "\u3000", "\x00", "don't", "100 %"]
pieces = st.one_of(st.sampled_from(FRAGMENTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
texts = st.lists(pieces, min_size=1, max_size=6).map("".join).filter(bool)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreTrainedTokenizerFast]:
    return {kind: tiny_tokenizer(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def texts_of(*made: StudentText) -> Texts:
    return {(number, 2**64 - 1 - number): text for number, text in enumerate(made)}


def read_all(path: Path, fingerprint: str, written: Texts) -> list[StudentText]:
    segment = Segment(path, fingerprint)
    assert segment.keys.tolist() == [low for _, low in written]
    found = [segment.text(row, high) for row, (high, _) in enumerate(written)]
    assert all(segment.text(row, high + 1) is None for row, (high, _) in enumerate(written))
    return [text for text in found if text is not None]


def sample_of(tokenizer: PreTrainedTokenizerFast, text: str, start: int, words: list[tuple[int, int]]) -> CachedSample:
    """As a teacher with this tokenizer has read it."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    offsets, nothing = ranges(encoded["offset_mapping"]), ranges([])
    ids = np.array(encoded["input_ids"], np.int32)
    targets = response_targets(start, len(text))
    return CachedSample("s1", text, targets, False, ids, offsets, every_row(len(ids)), ranges(words), nothing, nothing)


@given(text=texts, data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_texts_align_as_if_they_were_never_kept(
    tiny: dict[str, PreTrainedTokenizerFast], tmp_path: Path, text: str, data: st.DataObject
) -> None:
    teacher, student = (tiny[data.draw(st.sampled_from(KINDS))] for _ in range(2))
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    words = list(zip(places[::2], places[1::2], strict=False))
    cached = sample_of(teacher, text, data.draw(st.integers(0, len(text) - 1)), words)
    tokenize = StudentTokenizer(student, data.draw(st.integers(2, 40)), student.eos_token_id is not None)
    try:
        made = tokenize([cached])
    except TokenizerError:  # of offsets that go back: it is refused as before
        return
    written = {digest_of(cached): made[0]}
    found = read_all(write_segment(tmp_path, "f", written), "f", written)
    require_same(found, made)
    for choice in CHOICES:
        for one, other in zip(label_spans(choice, cached, found[0]), label_spans(choice, cached, made[0]), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(label_targets(cached, found[0]), label_targets(cached, made[0]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_conversations_in_another_template_keep_what_ties_them(tmp_path: Path) -> None:
    made = conversation_tokenizer()(conversations())
    assert {text.own_template for text in made} == {True} and any(text.cut for text in made)
    assert any(0 < int(text.same.sum()) < len(text.same) for text in made if text.same is not None)
    written = texts_of(*made)
    require_same(read_all(write_segment(tmp_path, "f", written), "f", written), made)


def test_texts_are_mapped_and_not_copied(tmp_path: Path) -> None:
    """A corpus of texts takes no memory but the system's own."""
    written = texts_of(*conversation_tokenizer()(conversations()) * 40)
    path = write_segment(tmp_path, "f", written)
    before = pa.total_allocated_bytes()
    segment = Segment(path, "f")
    assert pa.total_allocated_bytes() - before < 10_000 < path.stat().st_size // 100
    first, second = (segment.text(0, 0) for _ in range(2))
    assert first is not None and second is not None and np.shares_memory(first.offsets, second.offsets)


def test_no_token_and_no_target_are_kept_too(tmp_path: Path) -> None:
    nothing = StudentText(np.empty(0, np.int64), ranges([]), np.empty(0, bool), 0, False)
    none_same = StudentText(np.array([2**31 - 1]), ranges([(0, 1)]), np.array([False]), 1, True, np.array([False]))
    written = texts_of(nothing, none_same)
    path = write_segment(tmp_path, "f", written)
    require_same(read_all(path, "f", written), [nothing, none_same])
    assert sum(map(bytes_of, written.values())) < path.stat().st_size < 8192
    assert list(tmp_path.iterdir()) == [path]
    assert write_segment(tmp_path, "f", written) == path and write_segment(tmp_path, "g", written) != path


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segment")
    return write_segment(folder, "f", texts_of(*conversation_tokenizer()(conversations()[:2])))


def test_every_flipped_bit_and_every_truncation_is_refused(segment: Path, tmp_path: Path) -> None:
    content, path = segment.read_bytes(), tmp_path / segment.name
    random = np.random.default_rng(0)
    for place in random.choice(len(content), 150, replace=False).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(DamagedSegment, match="its content is not what its name says"):
            Segment(path, "f")
    for length in (0, 1, 8, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedSegment):
            Segment(path, "f")


def test_what_is_no_segment_of_these_texts_is_refused(segment: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="holds something else"):
        Segment(segment, "g")
    with pytest.raises(CacheError, match=r"cannot read .*it is a folder"):
        Segment(tmp_path, "f")
    shutil.copy(segment, tmp_path / "renamed.arrow")
    with pytest.raises(DamagedSegment):
        Segment(tmp_path / "renamed.arrow", "f")
    table = pa.ipc.open_file(segment).read_all()
    assert table.schema.names[:3] == ["high", "low", "ids"]  # any reader of Arrow opens it
