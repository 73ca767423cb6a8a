"""Edit distances against recursion, and the vocabulary map against a search through all of the student's tokens."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.tiny import Kind, tiny_tokenizer
from tests.trainer.alignment.edits import distance, nearest
from tests.trainer.alignment.samples import word_tokenizer
from trainer.alignment.vocabulary import SharedVocabulary, share_vocabulary
from trainer.alignment.vocabulary_map import NOT_LOOKED_UP, VocabularyMap, edit_distances

KINDS: tuple[Kind, ...] = ("bpe", "bytelevel", "unigram", "wordpiece")
strings = st.lists(st.binary(max_size=6) | st.text("ab c", max_size=7).map(str.encode), max_size=5)


@given(strings, strings)
@settings(deadline=None)
def test_edit_distances(first: list[bytes], second: list[bytes]) -> None:
    found = edit_distances(first, second)
    assert found.shape == (len(first), len(second))
    assert found.tolist() == [[distance(a, b) for b in second] for a in first]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, PreTrainedTokenizerFast]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: tiny_tokenizer(folder / kind, kind, 300) for kind in KINDS}


def test_every_token_goes_to_its_nearest(tokenizers: dict[Kind, PreTrainedTokenizerFast]) -> None:
    for first, second in combinations(tokenizers, 2):
        for pair in ((first, second), (second, first)):
            both = (tokenizers[pair[0]], tokenizers[pair[1]])
            size = len(both[1]) + 5  # a head that is padded to a round size
            found = VocabularyMap(both, share_vocabulary(*both), False, size)
            found.look_up_all()
            some = torch.randperm(len(both[1]), generator=torch.Generator().manual_seed(0))[:60].tolist()
            assert [found.student_W[token].item() for token in some] == [nearest(both, token) for token in some]
            assert found.student_W[-5:].tolist() == [-1] * 5


def test_only_what_is_asked_for_is_looked_up(tokenizers: dict[Kind, PreTrainedTokenizerFast]) -> None:
    both = (tokenizers["bytelevel"], tokenizers["bpe"])
    lazy = VocabularyMap(both, share_vocabulary(*both), False, len(both[1]))
    whole = VocabularyMap(both, share_vocabulary(*both), False, len(both[1]))
    whole.look_up_all()
    unknown = (lazy.student_W == NOT_LOOKED_UP).nonzero().squeeze(1)
    asked = torch.stack([unknown[3:9], torch.arange(6)])
    for _ in range(2):
        assert torch.equal(lazy(asked), whole.student_W[asked])
        left = (lazy.student_W == NOT_LOOKED_UP).nonzero().squeeze(1)
        assert set(left.tolist()) == set(unknown.tolist()) - set(asked.flatten().tolist())
        assert len(left)


def test_one_tokenizer_maps_to_itself(tokenizers: dict[Kind, PreTrainedTokenizerFast]) -> None:
    both = (tokenizers["bpe"], tokenizers["bpe"])
    found = VocabularyMap(both, SharedVocabulary.empty(), True, len(both[1]) + 3)
    assert found(torch.arange(len(both[1]))).tolist() == list(range(len(both[1])))
    assert found.student_W[-3:].tolist() == [-1] * 3


def test_a_head_of_fewer_rows_than_tokens_maps_what_it_has(tokenizers: dict[Kind, PreTrainedTokenizerFast]) -> None:
    both = (tokenizers["bpe"], tokenizers["bpe"])
    assert VocabularyMap(both, SharedVocabulary.empty(), True, 7).student_W.tolist() == list(range(7))
    apart = (tokenizers["bytelevel"], tokenizers["bpe"])
    whole = VocabularyMap(apart, share_vocabulary(*apart), False, len(apart[1]))
    whole.look_up_all()
    shared = share_vocabulary(*apart)
    few = SharedVocabulary(*(ids[shared.teacher_ids < 270] for ids in (shared.student_ids, shared.teacher_ids)))
    part = VocabularyMap(apart, few, False, 270)
    part.look_up_all()
    assert part.student_W.tolist() == whole.student_W[:270].tolist()


def test_the_table_is_no_weight_of_the_loss(tokenizers: dict[Kind, PreTrainedTokenizerFast]) -> None:
    both = (tokenizers["bpe"], tokenizers["bytelevel"])
    found = VocabularyMap(both, share_vocabulary(*both), False, len(both[1]))
    assert (
        not found.state_dict() and not list(found.parameters()) and dict(found.named_buffers()).keys() == {"student_W"}
    )
    assert found.student_W.dtype == found(torch.arange(3)).dtype == torch.long


def test_of_equally_near_tokens_the_shortest_then_the_first_in_byte_order() -> None:
    student = word_tokenizer(["cap", "cab", "cart", "at", "bat"])
    teacher = word_tokenizer(["cat", "bab"])
    pieces = [student.convert_ids_to_tokens(token) for token in range(len(student))]
    found = VocabularyMap((student, teacher), share_vocabulary(student, teacher), False, len(teacher))
    found.look_up_all()
    assert [pieces[token] for token in found.student_W.tolist()[1:]] == ["at", "bat"]
    assert found.student_W[0] == -1  # of unknown words
    assert edit_distances([b"cat"], [b"cap", b"cab", b"cart", b"at", b"bat"]).dtype == np.uint16
