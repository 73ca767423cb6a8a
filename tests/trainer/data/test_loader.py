"""Batches: what is a target, what counts as text, and that student and teacher belong together."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.errors import PairingError, TokenizerError
from tests.caches import small_cache
from tests.tiny import TEXTS, tiny_tokenizer
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder, batches
from trainer.data.sampler import BatchOrder
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.data.tied_tokens import SameTokenPositions, Spans


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("loader")
    return Cache(small_cache(folder))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return tiny_tokenizer(tmp_path_factory.mktemp("student"), "bytelevel", vocab=320)


class Watched(BatchBuilder):
    """Counts how often the loader's threads ask for a batch."""

    by_threads: Counter[tuple[int, ...]]

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        if threading.current_thread() is not threading.main_thread():
            self.by_threads[tuple(positions)] += 1
        return super().__getitem__(positions)


def test_targets_are_the_response_and_the_end(cache: Cache, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = StudentTokenizer(tokenizer, 64, append_eos=True)([cache.sample(p) for p in range(len(TEXTS))])
    for position, text in enumerate(texts):
        sample = cache.sample(position)
        ids = tokenizer(sample.text)["input_ids"]
        assert text.ids.tolist() == [*ids, tokenizer.eos_token_id][:64]
        said = tokenizer.decode(text.ids[text.target]).removesuffix("</s>")
        if len(ids) < 64 and sample.targets[0, 0]:
            assert said.strip() == sample.text[sample.targets[0, 0] :].strip()
            assert text.target[-1] and text.length == len(ids)


def test_the_end_of_sequence_is_a_target_and_no_text(cache: Cache, tokenizer: PreTrainedTokenizerFast) -> None:
    """The teacher was not fed one, so masses on both sides are those of the last token of the text."""
    with_end = BatchBuilder(cache, StudentTokenizer(tokenizer, 96, append_eos=True), [])[[3]]
    without = BatchBuilder(cache, StudentTokenizer(tokenizer, 96, append_eos=False), [])[[3]]
    assert with_end.tokens_BS.shape[1] == without.tokens_BS.shape[1] + 1
    assert with_end.mask_BS.sum() == without.mask_BS.sum()
    assert with_end.count("token") == without.count("token") + 1


def test_a_tokenizer_that_ends_texts_by_itself_is_not_given_a_second_end(cache: Cache, tmp_path: Path) -> None:
    ending = tiny_tokenizer(tmp_path, "bytelevel", vocab=320)
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", ending.eos_token_id)]
    )
    text = StudentTokenizer(ending, 96, append_eos=True)([cache.sample(3)])[0]
    assert text.ids.tolist().count(ending.eos_token_id) == 1 and text.ids[-1] == ending.eos_token_id
    assert text.target[-1]


def test_a_student_that_sees_less_is_not_paired_with_half_words(
    cache: Cache, tokenizer: PreTrainedTokenizerFast
) -> None:
    words = Spans("word", "text")
    for limit in range(4, 30):
        batch = BatchBuilder(cache, StudentTokenizer(tokenizer, limit, True), [words])[[5]]
        sample = cache.sample(5)
        seen = tokenizer(sample.text, return_offsets_mapping=True)["offset_mapping"][:limit][-1][1]
        ends = sample.token_offsets[:, 1]  # a word and its exclamation mark may be one token: then no token ends in it
        whole = sum(end <= seen and ((start < ends) & (ends <= end)).any() for start, end in sample.words.tolist())
        assert int(batch[words].mask_BK.sum()) == whole


def test_spans_tie_the_same_characters(cache: Cache, tokenizer: PreTrainedTokenizerFast) -> None:
    request = Spans("aligned", "response")
    positions = [0, 9, 30, 52]
    batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 96, False), [request])[positions]
    spans = batch[request]
    for row, position in enumerate(positions):
        sample = cache.sample(position)
        ends = np.array(tokenizer(sample.text, return_offsets_mapping=True)["offset_mapping"])[:, 1]
        for span in range(int(spans.mask_BK[row].sum())):
            student = ends[(spans.student_BS[row, : len(ends)] == span).numpy()].max()
            mine = spans.teacher_BT[row, : len(sample.token_offsets)] == span
            assert sample.token_offsets[mine.numpy(), 1].max() == student


def test_pairs_of_another_tokenizer_are_refused_with_the_sample(
    cache: Cache, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(PairingError, match="sample 's4': token 0 is"):
        BatchBuilder(cache, StudentTokenizer(tokenizer, 64, False), [SameTokenPositions()])[[4]]


def test_no_end_of_sequence_no_appending(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"student\.append_eos"):
        StudentTokenizer(tiny_tokenizer(tmp_path, "wordpiece"), 64, append_eos=True)


def test_states_are_padded_with_zeros(cache: Cache, tokenizer: PreTrainedTokenizerFast) -> None:
    needs = [TeacherHidden(1), TeacherMass(2)]
    batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 64, True), needs)[[0, 54]]
    for row, position in enumerate((0, 54)):
        length = len(cache.sample(position).token_ids)
        states = cache.states(position, [cache.array("hidden", 1)])[0]
        assert torch.equal(batch[TeacherHidden(1)][row, :length], torch.from_numpy(np.array(states)))
        assert not batch[TeacherHidden(1)][row, length:].any() and not batch[TeacherMass(2)][row, length:].any()
        assert batch.teacher_mask_BT[row].sum() == length


def test_threads_read_the_batches_of_the_order_ahead_and_stop_with_it(
    cache: Cache, tokenizer: PreTrainedTokenizerFast
) -> None:
    builder = Watched(cache, StudentTokenizer(tokenizer, 64, True), [TeacherHidden(1)])
    builder.by_threads = Counter()
    stream = batches(builder, BatchOrder(len(cache), 4, seed=0), workers=2, ahead=3)
    found = [next(stream) for _ in range(3)]
    for batch, positions in zip(found, BatchOrder(len(cache), 4, seed=0), strict=False):
        wanted = builder[positions]
        assert batch.sample_ids == wanted.sample_ids and torch.equal(batch.tokens_BS, wanted.tokens_BS)
        assert torch.equal(batch[TeacherHidden(1)], wanted[TeacherHidden(1)])
    stream.close()
    while any(thread.name.startswith("stillroom-loader") for thread in threading.enumerate()):
        time.sleep(0.01)
    ahead = builder.by_threads
    assert 3 <= len(ahead) <= 3 + 2 + 3 and set(ahead.values()) == {1}


def test_an_error_comes_where_its_batch_would_have_come(cache: Cache, tokenizer: PreTrainedTokenizerFast) -> None:
    builder = BatchBuilder(cache, StudentTokenizer(tokenizer, 64, True), [])
    stream = batches(builder, [[0], [1], [len(cache)], [2]], workers=1, ahead=3)
    assert [next(stream).sample_ids for _ in range(2)] == [("s0",), ("s1",)]
    with pytest.raises(IndexError):
        next(stream)


def test_every_epoch_visits_every_sample_once_and_a_cursor_resumes() -> None:
    order = iter(BatchOrder(10, 4, seed=3))
    seen = [next(order) for _ in range(10)]
    flat = [position for batch in seen for position in batch]
    for epoch in range(4):
        assert sorted(flat[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert flat[:10] != flat[10:20]
    resumed = iter(BatchOrder(10, 4, seed=3, start=6))
    assert [next(resumed) for _ in range(4)] == seen[6:]
    assert [next(iter(BatchOrder(10, 4, seed=4)))] != seen[:1]


def test_trimmed_white_space_at_the_end_is_no_end_of_sequence(cache: Cache, tokenizer: PreTrainedTokenizerFast) -> None:
    """GPT-NeoX gives it an empty range behind the blank it trimmed; an end of sequence lies where the text ended."""
    sample = cache.sample(3)
    length = len(sample.text)
    blank, end = np.array([[length + 1] * 2], np.int32), np.array([[length] * 2], np.int32)
    offsets = np.concatenate([sample.token_offsets, blank])
    trimmed = replace(sample, text=sample.text + " ", token_offsets=offsets)
    ended = replace(sample, token_offsets=np.concatenate([sample.token_offsets, end]))
    texts = StudentTokenizer(tokenizer, 96, append_eos=True)([trimmed, ended])
    assert [len(text.ids) - text.length for text in texts] == [1, 0]
