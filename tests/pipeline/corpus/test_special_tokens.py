"""Texts that spell out special tokens: a beginning that comes twice, and no spans inside markup."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from jobs.extract import run_extraction, show_plan
from pipeline.corpus.sample import Spans
from pipeline.corpus.special_tokens import SpecialTokens, said_alone
from pipeline.request.request import make_request
from schemas.cache.reader import Cache
from schemas.cache.samples import Turn
from schemas.configs.extraction import ExtractionConfig
from tests.caches import build_cache, extraction
from tests.tiny import tiny_llama, tiny_tokenizer

EMPTY = np.empty((0, 2), np.int32)
MARKED = "<s>[INST] Say something. [/INST] The old cook put pears into a pot.</s>"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It puts <s> before every text, and knows a token of markup with letters in it."""
    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = tiny_tokenizer(folder, "bytelevel")
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.add_tokens(AddedToken("<|im start|>", special=True), special_tokens=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tiny_llama(folder, tokenizer)
    return folder


def special_tokens(teacher: Path) -> SpecialTokens:
    return SpecialTokens(PreTrainedTokenizerFast.from_pretrained(teacher))


def test_a_text_that_begins_with_the_tokenizers_own_beginning(teacher: Path) -> None:
    special = special_tokens(teacher)
    assert special.beginning == "<s>"
    assert special.begin(MARKED) and not special.begin(" " + MARKED) and not special.begin("[INST]")
    assert not SpecialTokens(tiny_tokenizer(teacher.parent / "plain", "bytelevel")).begin("<|endoftext|>")


def test_special_tokens_are_hidden_and_keep_their_length(teacher: Path) -> None:
    special = special_tokens(teacher)
    assert special.hide(MARKED) == "\n\n\n" + MARKED[3:-4] + "\n\n\n\n"
    for plain in ("a < b", "x", "", "s </ s>"):
        assert special.hide(plain) == plain and not special.are_in(plain)
    assert special.are_in("a<|im start|>b") and special.hide("a<|im start|>b") == "a" + "\n" * 12 + "b"


def test_spans_that_touch_a_special_token_are_left_out(teacher: Path) -> None:
    text = "ab<s>cd</s>ef"
    every = [(start, end) for start in range(len(text)) for end in range(start + 1, len(text) + 1)]
    spans = np.array(every, np.int32)
    found = special_tokens(teacher).outside(Spans(spans, EMPTY, spans[:1]), text)
    inside = {*range(2, 5), *range(7, 11)}
    wanted = [[start, end] for start, end in every if not inside & {*range(start, end)}]
    assert found.words.tolist() == wanted
    assert found.noun_phrases.shape == (0, 2) and found.verb_phrases.tolist() == [[0, 1]]


def corpus(folder: Path, *texts: str) -> Path:
    path = folder / "corpus.jsonl"
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    return path


def request(teacher: Path, folder: Path, texts: Path) -> ExtractionConfig:
    source = {"files": [str(texts)], "text": "text", "prompt": None, "response": None, "id": None}
    return extraction(folder / "cache", teacher, texts, corpus=source)


def test_no_span_lies_in_markup(teacher: Path, tmp_path: Path) -> None:
    texts = corpus(tmp_path, MARKED, "A<|im start|>b")
    cache = Cache(build_cache(request(teacher, tmp_path, texts)))
    for position in range(2):
        sample = cache.sample(position)
        words = [sample.text[start:end] for start, end in sample.words.tolist()]
        if sample.text == MARKED:
            assert words == [
                "INST",
                "Say",
                "something",
                "INST",
                *["The", "old", "cook", "put", "pears", "into", "a", "pot"],
            ]
        else:
            assert words == ["A", "b"]


def test_a_corpus_without_markup_has_the_fingerprint_of_before(teacher: Path, tmp_path: Path) -> None:
    plain = make_request(request(teacher, tmp_path, corpus(tmp_path, "one", "two < three")))
    assert "spans" not in plain.manifest.identity and plain.plan.begin_twice == 0
    marked = make_request(request(teacher, tmp_path, corpus(tmp_path, MARKED, "two")))
    assert marked.manifest.identity["spans"] == "outside special tokens" and marked.plan.begin_twice == 1


def test_two_beginnings_are_said(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = corpus(tmp_path, MARKED, "two", MARKED + " again")
    config = request(teacher, tmp_path, texts)
    (tmp_path / "extract.yaml").write_text(config.model_dump_json())
    wanted = "2 samples begin twice: their text spells out the beginning of sequence (BOS) that the teacher's tokenizer"
    show_plan(tmp_path / "extract.yaml", [])
    assert wanted in " ".join(capsys.readouterr().out.split())
    build_cache(config)
    run_extraction(tmp_path / "extract.yaml", [])
    assert wanted in " ".join(capsys.readouterr().out.split())


def test_of_a_conversation_only_what_is_said_is_shown_to_an_annotator() -> None:
    text = "<|user|>Why?<|assistant|><think>hm</think>So."
    turns = (
        Turn(0, "user", "content", 8, 12),
        Turn(1, "assistant", "reasoning", 32, 34),
        Turn(1, "assistant", "content", 42, 45),
        Turn(1, "assistant", "end", 45, 45),
    )
    shown = said_alone(text, turns)
    assert [shown[turn.start : turn.end] for turn in turns] == ["Why?", "hm", "So.", ""]
    assert len(shown) == len(text) and set(shown) - set("Why?hmSo.") == {"\n"}
    assert shown.count("\n") == len(text) - len("Why?hmSo.")
    assert said_alone(text, ()) == text
