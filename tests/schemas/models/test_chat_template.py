"""The template that a model renders by: its tokenizer's own, one of several, a file, or the plain one."""

from datetime import date
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from schemas.conversations.template import ChatTemplate, TemplateRefusal
from schemas.errors import ConfigError, TokenizerError
from schemas.models.chat_template import LONGEST, PLAIN_TEMPLATE, find_template, special_spellings, special_strings
from tests.tiny import tiny_tokenizer

OWN, OTHER = "{{ messages[0].content }}{{ eos_token }}", "{{ messages[0].content | trim }}"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}, {"role": "user", "content": ""}]


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerFast:
    found = tiny_tokenizer(tmp_path / "tokenizer")
    found.chat_template = OWN
    return found


def test_the_tokenizers_own(tokenizer: PreTrainedTokenizerFast) -> None:
    found = find_template(tokenizer, None, {"x": 1}, date(2026, 11, 26))
    assert found == ChatTemplate(OWN, SPECIAL, {"x": 1}, date(2026, 11, 26))
    assert found.render(TALK).text == "Why?</s>"
    assert find_template(tokenizer, "default", {}).source == OWN


def test_one_of_several_by_its_name(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = {"default": OWN, "tool_use": OTHER, "plain": "own"}
    assert find_template(tokenizer, None, {}).source == OWN
    assert find_template(tokenizer, "tool_use", {}).source == OTHER
    assert find_template(tokenizer, "plain", {}).source == "own"
    tokenizer.chat_template = {"tool_use": OTHER}
    with pytest.raises(TokenizerError, match="has several chat templates and no default: name one of 'tool_use'"):
        find_template(tokenizer, None, {})
    assert find_template(tokenizer, None, {}, plain=True).source == PLAIN_TEMPLATE


def test_a_file(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ü.jinja").write_text("{{ 'é' }}", encoding="utf-8")
    assert find_template(tokenizer, str(tmp_path / "ü.jinja"), {}).render(TALK).text == "é"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_template(tokenizer, "~/ü.jinja", {}).source == "{{ 'é' }}"


def test_the_plain_one_ends_answers_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert find_template(tokenizer, "plain", {}).render(TALK).text == "<s>Why?\n\nSo.</s>\n\n"
    tokenizer.chat_template = None
    assert find_template(tokenizer, None, {}, plain=True).source == PLAIN_TEMPLATE
    without = ChatTemplate(PLAIN_TEMPLATE)
    assert without.render(TALK).text == "Why?\n\nSo.\n\n"


def test_none_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.chat_template = None
    with pytest.raises(TokenizerError) as caught:
        find_template(tokenizer, None, {})
    assert str(caught.value) == (
        f"the tokenizer {tokenizer.name_or_path} has no chat template: name a file of one in `chat_template`, or give "
        "`prompt` and `response` instead of conversations"
    )


def test_a_file_that_cannot_be_read_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "latin.jinja").write_bytes("{{ 'é' }}".encode("latin-1"))
    (tmp_path / "long.jinja").write_text("x" * (LONGEST + 1), encoding="utf-8")
    (tmp_path / "empty.jinja").write_text(" \n", encoding="utf-8")
    (tmp_path / "most.jinja").write_text("x" * LONGEST, encoding="utf-8")
    for name, said in {
        "none.jinja": "there is no chat template {}",
        ".": "cannot read {}: it is a folder, and a regular file is wanted",
        "latin.jinja": "{}: not UTF-8: ",
        "long.jinja": "cannot read {}: it is larger than the 1,048,576 bytes that such a file may have",
        "empty.jinja": "{}: an empty chat template",
    }.items():
        path = tmp_path / name
        with pytest.raises(ConfigError) as caught:
            find_template(tokenizer, str(path), {})
        assert str(caught.value).startswith(said.format(path))
    assert len(find_template(tokenizer, str(tmp_path / "most.jinja"), {}).source) == LONGEST


def test_what_is_no_template_is_refused_when_it_is_rendered(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{% if %}", encoding="utf-8")
    with pytest.raises(TemplateRefusal, match=r"^the chat template is not one: Expected an expression"):
        find_template(tokenizer, str(tmp_path / "t.jinja"), {}).render(TALK)


def test_special_tokens_by_name_and_by_spelling(tokenizer: PreTrainedTokenizerFast) -> None:
    assert special_strings(tokenizer) == SPECIAL
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", "<|eot|>", " "]})
    tokenizer.add_tokens(["<think>"])
    assert special_strings(tokenizer) == SPECIAL
    assert special_spellings(tokenizer) == ("<|im_end|>", "<|eot|>", "<pad>", "<unk>", "</s>", "<s>")
