"""Teacher tokens: the stored ids are those of the stored text, whatever the tokenizer and wherever a text is cut."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Encoding
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.annotation.tokens import Counts, TokenizedSample, tokenize
from pipeline.corpus.sample import Sample
from schemas.configs.extraction import TeacherConfig
from schemas.errors import CorpusError, TokenizerError
from tests.material import MATERIAL, needs_material
from tests.tiny import TEXTS, Kind, tiny_tokenizer

KINDS: list[Kind] = ["bytelevel", "bpe", "unigram", "wordpiece"]
PIECES = [*TEXTS[:3], *TEXTS[-5:], "e\u0301", "👩‍👩‍👧‍👦", "ﬁ", "\u00a0", "</s>", "[SEP]", "ÅÅ", "\u200b", "İ", "漢"]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), min_size=1, max_size=6).map("".join)
texts = texts.filter(lambda text: text.strip() != "")


@cache
def tokenizer_of(kind: Kind) -> PreTrainedTokenizerFast:
    return tiny_tokenizer(Path(mkdtemp()), kind)


def config(max_tokens: int, append_eos: bool = False) -> TeacherConfig:
    return TeacherConfig(model="x", max_tokens=max_tokens, append_eos=append_eos)


def check(
    sample: Sample,
    tokenizer: PreTrainedTokenizerFast,
    settings: TeacherConfig,
    kept: list[TokenizedSample],
    counts: Counts,
) -> None:
    whole, begin = sample.text, sample.targets[0][0]
    eos = tokenizer.eos_token_id if settings.append_eos else None
    if not kept:
        assert counts == Counts(0, 1)
        return
    (found,) = kept
    assert whole.startswith(found.text) and len(found.text) > found.targets[0, 0] == begin
    truth = tokenizer(found.text)["input_ids"]
    if eos is not None and not found.truncated and truth[-1] != eos:
        truth = [*truth, eos]
    assert found.token_ids.tolist() == truth
    assert len(truth) <= settings.max_tokens
    ids = tokenizer(whole)["input_ids"]
    assert found.truncated == (len(ids) + (eos is not None and ids[-1] != eos) > settings.max_tokens)
    assert counts == Counts(int(found.truncated), 0)
    assert found.truncated or found.text == whole
    offsets = found.token_offsets
    assert offsets.dtype == np.int32 and offsets.shape == (len(truth), 2)
    assert (offsets[:, 0] <= offsets[:, 1]).all() and (np.diff(offsets, axis=0) >= 0).all()
    assert offsets.min() >= 0 and offsets.max() <= len(found.text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(prompt=st.one_of(st.just(""), texts), response=texts, max_tokens=st.integers(2, 40), append_eos=st.booleans())
def test_ids_are_those_of_the_stored_text(
    kind: str, prompt: str, response: str, max_tokens: int, append_eos: bool
) -> None:
    tokenizer = tokenizer_of(kind)
    setting = config(max_tokens, append_eos and kind != "wordpiece")
    sample = Sample.of_response("s", prompt, response)
    try:
        kept, counts = tokenize([sample], tokenizer, setting, "truncate")
    except TokenizerError as error:
        assert "makes no token" in str(error) and not tokenizer(prompt + response)["input_ids"]
        return
    check(sample, tokenizer, setting, kept, counts)


@needs_material
@pytest.mark.parametrize("name", ["gpt2", "llama2", "qwen2", "mistral", "bert-uncased"])
def test_real_tokenizers_keep_it_too(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MATERIAL / "tokenizers" / name)
    text = " ".join(TEXTS[-5:] + PIECES) * 2
    for max_tokens in range(2, 120, 7):
        for start in range(0, 60, 13):
            sample = Sample.of_response("s", text[:start], text[start:])
            setting = config(max_tokens)
            check(sample, tokenizer, setting, *tokenize([sample], tokenizer, setting, "truncate"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_text_is_nearly_as_long_as_allowed(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    sample = Sample.of_response("s", "", " ".join(TEXTS[:20]))
    ((found,), _) = tokenize([sample], tokenizer, config(50), "truncate")
    assert 48 <= len(found.token_ids) <= 50


def test_a_character_of_several_byte_tokens_is_never_split() -> None:
    tokenizer = tokenizer_of("bytelevel")
    family = "👩‍👩‍👧‍👦" * 3
    lengths = {}
    for max_tokens in range(2, len(tokenizer(family)["input_ids"])):
        kept, _ = tokenize([Sample.of_response("s", "", family)], tokenizer, config(max_tokens), "truncate")
        lengths[max_tokens] = len(kept[0].text) if kept else 0
        assert not kept or "\ufffd" not in tokenizer.decode(kept[0].token_ids)
    assert lengths[2] == 0 and sorted(lengths.values()) == list(lengths.values()) and max(lengths.values()) > 10


def test_special_tokens_cover_nothing_and_lie_where_the_text_ends() -> None:
    text = "The old miller"
    ((bert,), _) = tokenize([Sample.of_response("s", "", text)], tokenizer_of("wordpiece"), config(64), "truncate")
    assert bert.token_offsets[0].tolist() == [0, 0] and bert.token_offsets[-1].tolist() == [len(text)] * 2
    assert bert.token_offsets[-2, 1] == len(text)
    ((llama,), _) = tokenize([Sample.of_response("s", "", text)], tokenizer_of("bpe"), config(64, True), "truncate")
    assert llama.token_offsets[0].tolist() == [0, 0] and llama.token_offsets[-1].tolist() == [len(text)] * 2
    assert llama.token_ids[-1] == tokenizer_of("bpe").eos_token_id


def test_a_text_whose_end_token_alone_does_not_fit_keeps_its_characters() -> None:
    tokenizer = tokenizer_of("bytelevel")
    sample = Sample.of_response("s", "", TEXTS[0])
    length = len(tokenizer(TEXTS[0])["input_ids"])
    ((found,), counts) = tokenize([sample], tokenizer, config(length, True), "truncate")
    assert (found.text, found.truncated, len(found.token_ids)) == (TEXTS[0], True, length)
    assert counts == Counts(1, 0)
    assert tokenize([sample], tokenizer, config(length, True), "skip") == ([], Counts(0, 1))


def test_what_is_too_long_is_cut_left_out_or_refused() -> None:
    tokenizer = tokenizer_of("bytelevel")
    samples = [
        Sample.of_response("a", "", "ok"),
        Sample.of_response("b", TEXTS[0] * 3, "no room left"),
        Sample.of_response("c", "x ", TEXTS[1]),
    ]
    kept, counts = tokenize(samples, tokenizer, config(8), "truncate")
    assert ([s.id for s in kept], counts) == (["a", "c"], Counts(1, 1))
    kept, counts = tokenize(samples, tokenizer, config(8), "skip")
    assert ([s.id for s in kept], counts) == (["a"], Counts(0, 2))
    with pytest.raises(CorpusError, match=r"sample 'b' has \d+ tokens, more than teacher.max_tokens \(8\)"):
        tokenize(samples, tokenizer, config(8), "error")


def test_bad_tokenizers_are_named() -> None:
    with pytest.raises(TokenizerError, match="no end-of-sequence token"):
        tokenize([Sample.of_response("a", "", "x")], tokenizer_of("wordpiece"), config(8, True), "truncate")

    class Backwards:
        """What a broken tokenizer would give: real encodings, swapped."""

        def __call__(self, batch: list[str], **options: Any) -> Any:
            encodings = tokenizer_of("bytelevel")(batch, **options).encodings
            return type("Encoded", (), {"encodings": [Swapped(e) for e in encodings]})

    class Swapped:
        def __init__(self, encoding: Encoding):
            self.ids, self.special_tokens_mask = encoding.ids, encoding.special_tokens_mask
            self.offsets = encoding.offsets[::-1]

    with pytest.raises(TokenizerError, match="sample 'a': the tokenizer's character offsets run backwards"):
        tokenize([Sample.of_response("a", "", TEXTS[0])], Backwards(), config(64), "truncate")
