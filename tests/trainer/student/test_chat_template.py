"""Which chat template a student reads conversations by, and where its text begins and ends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.configs.training import StudentConfig
from schemas.conversations.layout import LAYOUTS
from schemas.conversations.parts import Markers
from schemas.conversations.show import Reader
from schemas.conversations.targets import TargetChoice
from schemas.conversations.template import ChatTemplate
from schemas.models.chat_template import PLAIN_TEMPLATE
from tests.chats import SAYINGS, chat_cache, chat_tokenizer, family
from tests.schemas.conversations.cases import CASES
from tests.tiny import tiny_tokenizer
from tests.trainer.alignment.characters import cached, characters
from trainer.alignment.student_conversation import ConversationReader
from trainer.alignment.student_text import StudentText, StudentTokenizer
from trainer.student.chat_template import conversation_reader, template_hash


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(chat_cache(tmp_path_factory.mktemp("chat")))


def reader(cache: Cache, found_tokenizer: PreTrainedTokenizerFast, **student: Any) -> ConversationReader:
    given = {"model": "m"} | student
    if given.get("tokenizer") == "teacher":
        given = {"architecture": {"model_type": "llama"}} | {k: v for k, v in given.items() if k != "model"}
    config = StudentConfig.model_validate(given)
    found = conversation_reader(config, found_tokenizer, cache.path, cache.manifest.conversations)
    assert found is not None
    return found


def test_the_template_is_the_configs_or_the_tokenizers_or_plain(cache: Cache, tmp_path: Path) -> None:
    phi3, none = chat_tokenizer(tmp_path / "phi3", "phi3"), tiny_tokenizer(tmp_path / "none", "bytelevel")
    teachers = PreTrainedTokenizerFast.from_pretrained(cache.path / "teacher")
    own = tmp_path / "own.jinja"
    own.write_text(family("zephyr").template, encoding="utf-8")
    chatml = family("chatml").template
    for tokenizer, student, source, is_teachers in (
        (phi3, {}, family("phi3").template, False),
        (none, {}, PLAIN_TEMPLATE, False),
        (phi3, {"chat_template": "plain"}, PLAIN_TEMPLATE, False),
        (phi3, {"chat_template": str(own)}, family("zephyr").template, False),
        (phi3, {"chat_template": "teacher"}, chatml, False),  # whose special tokens are others
        (teachers, {"tokenizer": "teacher"}, chatml, True),
        (teachers, {"tokenizer": "teacher", "template_arguments": {"mood": 1}}, chatml, False),
    ):
        found = reader(cache, tokenizer, **student)
        assert (found.template.source, found.is_teachers) == (source, is_teachers)


def test_the_hash_is_of_the_template_and_its_arguments(cache: Cache, tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path, "phi3")
    one = template_hash(reader(cache, tokenizer))
    assert one == template_hash(reader(cache, tokenizer, template_arguments={}))
    assert one != template_hash(reader(cache, tokenizer, template_arguments={"mood": 1}))
    assert one != template_hash(reader(cache, tokenizer, chat_template="plain"))


def plain_texts(cache: Cache, folder: Path, kind: Any) -> tuple[PreTrainedTokenizerFast, list[StudentText]]:
    tokenizer = tiny_tokenizer(folder, kind)
    texts = StudentTokenizer(tokenizer, 512, True, reader(cache, tokenizer))(
        [cache.sample(position) for position in range(len(cache))]
    )
    return tokenizer, texts


@pytest.mark.parametrize("kind", ["bpe", "bytelevel"])
def test_plain_begins_once_and_learns_to_end_every_answer(cache: Cache, tmp_path: Path, kind: str) -> None:
    tokenizer, texts = plain_texts(cache, tmp_path, kind)
    for sayings, text in zip(SAYINGS, texts, strict=True):
        ids = text.ids.tolist()
        assert ids.count(tokenizer.bos_token_id) == (tokenizer.bos_token is not None) and not text.begins_twice
        ends = text.ids == tokenizer.eos_token_id
        assert ends.sum() == len(sayings) // 2 and text.target[ends].all() and ids[-1] == tokenizer.eos_token_id
        said = tokenizer.decode(text.ids[text.target & ~ends])
        assert "".join(said.split()) == "".join("".join(sayings[1::2]).split())


def test_an_end_of_turn_that_only_one_side_has(cache: Cache) -> None:
    """The student's is learnt, and is not the last real token of its text, if the teacher has none."""
    talk = LAYOUTS.find("messages").read(CASES[0].record, "messages", None, "r")
    chatml, zephyr = (
        ChatTemplate(family("chatml").template),
        ChatTemplate(family("zephyr").template, {"eos_token": "</s>"}),
    )
    endless = Reader(chatml, Markers.of(chatml, ()), TargetChoice()).show(talk)
    ended = Reader(chatml, Markers.of(chatml, ("<|im_end|>",)), TargetChoice()).show(talk)

    def read(special: tuple[str, ...], shown: Any) -> StudentText:
        (found,) = StudentTokenizer(characters(), 999, False, ConversationReader(zephyr, special))([cached(shown)])
        return found

    mine = read(("</s>",), endless)
    assert mine.length == len(mine.ids) - len("</s>") and mine.target[-len("</s>") :].all()
    theirs = read((), ended)
    assert theirs.length == len(theirs.ids) and theirs.offsets[-1, 1] == ended.text.index(
        "<|im_end|>", ended.targets[0][0]
    )
    both = read(("</s>",), ended)
    assert both.length == len(both.ids) and both.offsets[-1].tolist() == [len(ended.text) - 10, len(ended.text)]


def test_a_conversation_of_which_the_template_shows_nothing_has_nothing_to_learn(cache: Cache) -> None:
    silent = ChatTemplate("{% for m in messages if m.content | length < 9 %}{{ m.content }}{% endfor %}-")
    tokenizer = characters()
    (found,) = StudentTokenizer(tokenizer, 99, False, ConversationReader(silent, ()))([cache.sample(0)])
    assert len(found.ids) == 1 and not found.target.any() and not np.diff(found.offsets).any()
