"""A text in the student's tokens: ids, characters, targets and lengths, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from schemas.cache.targets import response_targets
from schemas.errors import TokenizerError
from tests.trainer.alignment.samples import Ranges, ranges, sample, word_tokenizer
from trainer.alignment.student_text import StudentText, StudentTokenizer, ends_with_special

END, UNKNOWN, SAY, OLD, CAT = 0, 1, 2, 3, 4
TEXT = "say: old cat"  # the prompt is "say: "
TOKENS: Ranges = [(0, 4), (5, 8), (9, 12)]
SAMPLE = sample(TEXT, TOKENS, prompt_end=5)
ENDED = replace(SAMPLE, token_offsets=ranges([*TOKENS, (12, 12)]))


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    return word_tokenizer(["say:", "old", "cat"], eos_token="</s>")


def with_template(tokenizer: PreTrainedTokenizerFast, single: str) -> PreTrainedTokenizerFast:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("</s>", END)]
    )
    return tokenizer


def assert_is(
    found: StudentText, ids: list[int], offsets: Ranges, target: list[int], length: int, cut: bool = False
) -> None:
    assert found.ids.dtype == np.int64 and found.offsets.dtype == np.int32 and found.target.dtype == np.bool_
    assert found.ids.tolist() == ids and found.offsets.tolist() == [list(span) for span in offsets]
    assert np.flatnonzero(found.target).tolist() == target
    assert (found.length, found.cut) == (length, cut)


def test_without_an_end_of_sequence(words: PreTrainedTokenizerFast) -> None:
    (found,) = StudentTokenizer(words, 9, append_eos=False)([SAMPLE])
    assert_is(found, [SAY, OLD, CAT], TOKENS, target=[1, 2], length=3)


def test_an_end_of_sequence_is_a_target_and_text_only_where_the_teacher_has_one(words: PreTrainedTokenizerFast) -> None:
    student = StudentTokenizer(words, 9, append_eos=True)
    plain, ended, truncated = student([SAMPLE, ENDED, replace(ENDED, truncated=True)])
    assert_is(plain, [SAY, OLD, CAT, END], [*TOKENS, (0, 0)], target=[1, 2, 3], length=3)
    assert_is(ended, [SAY, OLD, CAT, END], [*TOKENS, (0, 0)], target=[1, 2, 3], length=4)
    assert_is(truncated, [SAY, OLD, CAT], TOKENS, target=[1, 2], length=3)


def test_a_tokenizer_that_ends_texts_by_itself(words: PreTrainedTokenizerFast) -> None:
    (found,) = StudentTokenizer(with_template(words, "$A </s>"), 9, append_eos=True)([SAMPLE])
    assert_is(found, [SAY, OLD, CAT, END], [*TOKENS, (0, 0)], target=[1, 2, 3], length=4)


def test_a_special_token_stands_for_no_characters_wherever_it_is(words: PreTrainedTokenizerFast) -> None:
    (found,) = StudentTokenizer(with_template(words, "</s> $A"), 9, append_eos=False)([SAMPLE])
    assert_is(found, [END, SAY, OLD, CAT], [(0, 0), *TOKENS], target=[2, 3], length=4)
    (spelt,) = StudentTokenizer(words, 9, append_eos=False)([sample("</s> cat", [])])
    assert spelt.ids.tolist()[0] == END and spelt.offsets.tolist()[0] == [0, 0]


def test_the_first_token_is_predicted_from_nothing(words: PreTrainedTokenizerFast) -> None:
    (found,) = StudentTokenizer(words, 9, append_eos=False)([replace(SAMPLE, targets=response_targets(0, 12))])
    assert_is(found, [SAY, OLD, CAT], TOKENS, target=[1, 2], length=3)
    (empty,) = StudentTokenizer(words, 9, append_eos=True)([sample(" ", [])])
    assert_is(empty, [END], [(0, 0)], target=[], length=0)


def test_a_token_across_the_end_of_the_prompt_is_a_target(words: PreTrainedTokenizerFast) -> None:
    found = [
        StudentTokenizer(words, 9, False)([replace(SAMPLE, targets=response_targets(end, 12))])[0]
        for end in (7, 8, 11, 12)
    ]
    assert [np.flatnonzero(text.target).tolist() for text in found] == [[1, 2], [2], [2], []]


def test_targets_between_contexts(words: PreTrainedTokenizerFast) -> None:
    """A token belongs to the range that it ends in; the end of sequence is learnt whatever the last turn is."""
    several = replace(SAMPLE, targets=ranges([(0, 4), (7, 8)]), token_offsets=ranges([(0, 4), (4, 8), (8, 12)]))
    (found,) = StudentTokenizer(words, 9, append_eos=True)([replace(several, text="say: cat old")])
    assert_is(found, [SAY, CAT, OLD, END], [(0, 4), (5, 8), (9, 12), (0, 0)], target=[1, 3], length=3)
    (found,) = StudentTokenizer(words, 9, append_eos=False)([replace(several, targets=ranges([(5, 7)]))])
    assert np.flatnonzero(found.target).tolist() == []


@pytest.mark.parametrize(
    ("most", "ended", "length", "cut"),
    [(2, False, 2, True), (3, False, 3, True), (4, False, 3, False), (3, True, 3, True)],
)
def test_what_is_longer_is_cut(words: PreTrainedTokenizerFast, most: int, ended: bool, length: int, cut: bool) -> None:
    (found,) = StudentTokenizer(words, most, append_eos=True)([ENDED if ended else SAMPLE])
    assert len(found.ids) == len(found.offsets) == len(found.target) == most
    assert found.ids.tolist() == [SAY, OLD, CAT, END][:most]
    assert (found.length, found.cut) == (length, cut)


def test_offsets_that_cannot_be_used_name_the_sample(words: PreTrainedTokenizerFast) -> None:
    class Beyond:
        """Offsets of another text."""

        eos_token_id = END

        def __call__(self, texts: list[str], **options: bool) -> dict[str, list[object]]:
            assert options["return_offsets_mapping"] and options["return_special_tokens_mask"]
            return {"input_ids": [[SAY]], "offset_mapping": [[(0, 99)]], "special_tokens_mask": [[0]]}

    with pytest.raises(TokenizerError, match=r"^sample 's': token 0 claims characters 0 to 99 of a text of 12: "):
        StudentTokenizer(Beyond(), 9, append_eos=False)([SAMPLE])


def test_an_end_of_sequence_that_is_asked_for_and_does_not_exist() -> None:
    tokenizer = word_tokenizer(["cat"])
    with pytest.raises(
        TokenizerError,
        match=r"^the student's tokenizer has no end-of-sequence token: set student\.append_eos to false$",
    ):
        StudentTokenizer(tokenizer, 9, append_eos=True)
    assert StudentTokenizer(tokenizer, 9, append_eos=False)([sample("cat", [])])[0].ids.tolist() == [1]


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ([], False),
        ([(0, 0)], False),  # a beginning of sequence, or an end of nothing
        ([(0, 3)], False),
        ([(0, 3), (3, 3)], True),
        ([(0, 3), (4, 4)], False),  # trimmed white space
        ([(0, 3), (0, 0)], False),
        ([(0, 0), (0, 5), (3, 5), (5, 5)], True),
        ([(0, 0), (0, 0)], True),
    ],
)
def test_whether_the_teacher_has_an_end_of_sequence(tokens: Ranges, ends: bool) -> None:
    assert ends_with_special(sample("a text", tokens)) is ends


@pytest.mark.parametrize(
    ("ids", "offsets", "twice"),
    [
        ([7, 7, 1], [(0, 0), (0, 3), (3, 5)], True),
        ([7, 8, 1], [(0, 0), (0, 3), (3, 5)], False),  # another
        ([7, 7, 1], [(0, 3), (3, 6), (6, 8)], False),  # the text spells it twice, and none is added
        ([7, 7, 1], [(0, 0), (0, 0), (0, 2)], False),  # the tokenizer adds two by itself
        ([7], [(0, 0)], False),
        ([], [], False),
    ],
)
def test_a_beginning_that_the_text_spells_and_the_tokenizer_adds(ids: list[int], offsets: Ranges, twice: bool) -> None:
    target = np.zeros(len(ids), bool)
    text = StudentText(np.array(ids, np.int64), ranges(offsets).reshape(-1, 2), target, len(ids), False)
    assert text.begins_twice is twice
