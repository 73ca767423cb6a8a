"""Held-out conversations, read from a file and rendered for a model."""

from pathlib import Path

import pytest

from schemas.configs.conversations import ConversationsConfig
from schemas.configs.training import EvaluationConfig, StudentConfig
from schemas.errors import ConfigError, CorpusError, TokenizerError
from tests.chats import SAYINGS, chat_tokenizer, talk, write_chats
from tests.corpora import write_lines
from trainer.evaluation.held_out import HeldOut, hash_material
from trainer.evaluation.held_out_conversations import read_conversations

STUDENT = StudentConfig(model="a/student", max_tokens=32)


def test_the_first_are_read_in_their_layout_each_with_its_place(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [{"instruction": "Why?", "output": str(n)} for n in range(3)])
    held = read_conversations(path, ConversationsConfig(layout="alpaca"), limit=2)
    assert [[message.content for message in chat.messages] for chat in held] == [["Why?", "0"], ["Why?", "1"]]
    assert held.places == (f"{path}:1", f"{path}:2")


def test_answers_are_scored_without_the_white_space_around_them(tmp_path: Path) -> None:
    held = read_conversations(write_chats(tmp_path / "c.jsonl"), ConversationsConfig(), chat_template="plain")
    tokenizer = chat_tokenizer(tmp_path / "model", "chatml")
    for rendered, sayings in zip(held.render(tokenizer), SAYINGS, strict=True):
        assert rendered is not None
        said = [rendered.text[start:end] for start, end in rendered.contents.tolist()]
        assert said == [answer.strip() for answer in sayings[1::2]]
        assert rendered.text.startswith(f"<s>{sayings[0]}\n\n{sayings[1]}<|im_end|>")


def test_what_cannot_be_read_or_rendered_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": 7}]}])
    with pytest.raises(CorpusError, match=r"c\.jsonl:1: field 'messages': message 1: 'content' is a number"):
        read_conversations(path, ConversationsConfig())
    with pytest.raises(ConfigError, match="unknown layout of conversations 'chats'"):
        read_conversations(path, ConversationsConfig(layout="chats"))
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(CorpusError, match=r"none\.jsonl holds no conversation to evaluate on"):
        read_conversations(tmp_path / "none.jsonl", ConversationsConfig())
    (tmp_path / "bad.jinja").write_text("{{ raise_exception('no') }}")
    held = read_conversations(
        write_chats(tmp_path / "good.jsonl"), ConversationsConfig(), chat_template=str(tmp_path / "bad.jinja")
    )
    with pytest.raises(TokenizerError, match=r"a question and an answer: .*give another chat template"):
        list(held.render(chat_tokenizer(tmp_path / "model", None)))


def test_one_that_begins_with_an_answer_stops_or_is_counted(tmp_path: Path) -> None:
    backwards = [{"role": "assistant", "content": "Because."}, *talk("Why?", "So.")]
    path = write_chats(tmp_path / "c.jsonl", backwards, talk("Why?", "Why not?"))
    with pytest.raises(
        CorpusError, match=r"c\.jsonl:5: .*the first message is .*`refused: skip` leaves such records out"
    ):
        read_conversations(path, ConversationsConfig())
    held = read_conversations(path, ConversationsConfig(refused="skip"))
    assert (len(held), held.misshapen, held.places[-1]) == (len(SAYINGS) + 1, 1, f"{path}:6")


def test_a_hash_is_of_the_conversations_and_of_what_is_scored(tmp_path: Path) -> None:
    path = write_chats(tmp_path / "c.jsonl")
    one = read_conversations(path, ConversationsConfig())
    shared = [
        {"conversations": [{"from": ("human", "gpt")[n % 2], "value": said} for n, said in enumerate(sayings)]}
        for sayings in SAYINGS
    ]
    other = read_conversations(write_lines(tmp_path / "s.jsonl", shared), ConversationsConfig(layout="sharegpt"))
    assert hash_material(one) == hash_material(other)
    assert hash_material(one) != hash_material(read_conversations(path, ConversationsConfig(targets="last")))
    assert hash_material(one) != hash_material(read_conversations(path, ConversationsConfig(), limit=2))


def test_a_run_finds_its_metric_by_its_material(tmp_path: Path) -> None:
    path = write_chats(tmp_path / "c.jsonl")
    held = HeldOut(EvaluationConfig(texts=str(path), conversations=ConversationsConfig(), limit=3), STUDENT)
    assert held.metric.name == "target_bits_per_byte" and len(held.material) == 3
    with pytest.raises(ConfigError, match="bits_per_byte measures causal models by texts; metrics of causal models by"):
        HeldOut(EvaluationConfig(texts=str(path), conversations={}, metric="bits_per_byte"), STUDENT)
