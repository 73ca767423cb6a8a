"""Records of conversations become samples: counts by hand, each way of leaving one out, ids, and the same twice."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.conversations import ConversationCounts, ConversationSource, conversation_source
from pipeline.corpus.corpus import Corpus, read_corpus
from pipeline.corpus.sample import Sample
from schemas.cache.conversations import ConversationsRecord
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import ConfigError, CorpusError, TokenizerError
from tests.chats import chat_tokenizer, talk
from tests.schemas.conversations.record import assistant, call, result, system, tool, user

HALF = "has an unpaired surrogate, \\ud83d, at character"
SILENT = assistant("", call("f", {"\ud83d": 1}))
CLOCK = tool("get_time", "The time of day.")
THOUGHTFUL = [
    user("Is it late?"),
    assistant(None, call("get_time", {}, "call00001"), reasoning_content="I need the time."),
    result("23:59", "call00001"),
    assistant("Yes."),
    user("Sure?"),
    assistant("Yes, sure.", reasoning_content="It is."),
]


def corpus(
    folder: Path, records: list[dict[str, Any]], family: str | None = "qwen3", **fields: Any
) -> tuple[Corpus, ConversationSource]:
    """Those records as a corpus; `fields` are of `corpus.conversations`, or of the section around it."""
    folder.mkdir(exist_ok=True)
    (folder / "c.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    own = {key: fields.pop(key) for key in ("empty", "id", "limit", "repeats") if key in fields}
    teacher = {"model": str(folder), **fields.pop("teacher", {})}
    config = ExtractionConfig.model_validate(
        {
            "output": str(folder / "cache"),
            "corpus": {"files": [str(folder / "c.jsonl")], "conversations": fields, **own},
            "teacher": teacher,
            "states": {"hidden": [1]},
        }
    )
    source = conversation_source(config, chat_tokenizer(folder / "tokenizer", family))
    assert source is not None
    return read_corpus(config.corpus, source), source


def read(folder: Path, records: list[dict[str, Any]], **fields: Any) -> tuple[list[Sample], ConversationCounts]:
    counts = ConversationCounts()
    found, _ = corpus(folder, records, **fields)
    return [sample for _, sample in found.read(counts=counts) if sample is not None], counts


def refusal(folder: Path, *records: dict[str, Any], **fields: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        read(folder, list(records), **fields)
    return str(caught.value).replace(str(folder), "F")


def test_what_becomes_of_a_conversation_is_counted(tmp_path: Path) -> None:
    records = [{"messages": THOUGHTFUL, "tools": [CLOCK]}, {"messages": talk("Why?", "Because.")}]
    samples, counts = read(tmp_path, records, tools="tools")
    assert counts == ConversationCounts(
        turns=8, targets=4, refused=0, dropped=Counter(reasoning=1), rewritten=Counter(tool_calls=1)
    )
    twice, counts_of_twice = read(tmp_path, [*records, *records], tools="tools", repeats="skip")
    assert (twice, counts_of_twice) == (samples, counts)
    first, second = samples
    learnt = [first.text[start:end] for start, end in first.targets]
    call_text = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call><|im_end|>'
    assert learnt == [call_text, "Yes.<|im_end|>", "<think>\nIt is.\n</think>\n\nYes, sure.<|im_end|>"]
    assert first.text.endswith("Yes, sure.<|im_end|>") and first.is_conversation
    assert [turn.part for turn in second.turns] == ["content", "content", "end"]
    assert second.text == (
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nBecause.<|im_end|>"
    )


def test_what_is_learnt_is_a_choice(tmp_path: Path) -> None:
    record = {"messages": THOUGHTFUL, "tools": [CLOCK]}
    samples, counts = read(tmp_path, [record], targets="last", reasoning=False, tool_calls=False, tools="tools")
    assert [samples[0].text[start:end] for start, end in samples[0].targets] == ["Yes, sure.<|im_end|>"]
    assert (counts.turns, counts.targets) == (6, 1)


SHAPES = [
    (talk("Why?", "Because.")[1:], "field 'messages': the first message is an assistant's, and there is nothing that"),
    (talk("Why?"), "field 'messages': no message is an assistant's, and only what an assistant says is learnt"),
]


@pytest.mark.parametrize(("messages", "said"), SHAPES)
def test_a_shape_of_which_nothing_can_be_learnt_is_refused(tmp_path: Path, messages: Any, said: str) -> None:
    records = [{"messages": talk("Why?", "Because.")}, {"messages": messages}, {"messages": talk("How?", "So.")}]
    message = refusal(tmp_path, *records)
    assert message.startswith(f"F/c.jsonl:2: {said}")
    assert message.endswith("; `conversations.refused: skip` leaves such records out")
    samples, counts = read(tmp_path, records, refused="skip")
    assert (len(samples), counts.refused) == (2, 1)
    assert counts.first_refusal.replace(str(tmp_path), "F").startswith(f"F/c.jsonl:2: {said}")


def test_what_the_template_refuses_is_named_or_left_out(tmp_path: Path) -> None:
    records = [{"messages": [*talk("Why?"), *talk("How?", "So.")]}, {"messages": talk("Why?", "Because.")}]
    assert refusal(tmp_path, *records, family="gemma3") == (
        "F/c.jsonl:1: the chat template refuses it: Conversation roles must alternate user/assistant/user/assistant/..."
        "; `conversations.refused: skip` leaves such records out"
    )
    samples, counts = read(tmp_path, records, family="gemma3", refused="skip")
    assert (len(samples), counts.refused, counts.turns, counts.targets) == (1, 1, 2, 1)


def test_what_cannot_be_located_is_named_or_left_out(tmp_path: Path) -> None:
    records = [{"messages": talk("Write one.", "Here: </think> it is.")}]
    assert refusal(tmp_path, *records) == (
        "F/c.jsonl:1: the chat template rewrites the content of message 2, so what is to be learnt of it cannot be "
        "located; `conversations.refused: skip` leaves such records out"
    )
    samples, counts = read(tmp_path, records, refused="skip")
    assert (samples, counts.refused) == ([], 1)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"messages": 3}, "field 'messages' is a number, not a list of messages"),
        ({"messages": []}, "field 'messages' is an empty list; a conversation has a question and an answer at least"),
        ({"chat": []}, "no field 'messages'; available: 'chat'"),
        ({"messages": [{"role": "user"}, {"role": "gpt"}]}, "field 'messages': message 2: 'role' is 'gpt', not"),
        ({"messages": talk("Why?", "Be\ud83dcause.")}, f"field 'messages': message 2 {HALF}"),
        ({"messages": [*talk("Why?", "x"), SILENT]}, f"field 'messages': message 3 {HALF}"),
    ],
)
def test_what_is_malformed_is_never_left_out(tmp_path: Path, record: dict[str, Any], said: str) -> None:
    for refused in ("error", "skip"):
        message = refusal(tmp_path, {"messages": talk("Why?", "So.")}, record, refused=refused, empty="skip")
        assert message.startswith(f"F/c.jsonl:2: {said}")
        assert "refused: skip" not in message


def test_a_conversation_of_which_nothing_is_learnt_is_empty(tmp_path: Path) -> None:
    records = [{"messages": talk("Why?", " \n")}, {"messages": talk("Why?", "Because.")}]
    samples, counts = read(tmp_path, records)
    assert (len(samples), counts.refused, counts.turns) == (1, 0, 2)
    assert refusal(tmp_path, *records, empty="error") == (
        "F/c.jsonl:1: nothing of it is learnt; `corpus.empty: skip` leaves such records out"
    )
    assert refusal(tmp_path, *records, empty="error", refused="skip").startswith("F/c.jsonl:1: nothing of it")


def test_a_conversation_has_one_id_in_every_layout(tmp_path: Path) -> None:
    layouts: dict[str, dict[str, Any]] = {
        "messages": {"messages": talk("Why?", "Because.")},
        "sharegpt": {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        "alpaca": {"instruction": "Why?", "output": "Because."},
    }
    samples = [read(tmp_path / name, [record], layout=name)[0][0] for name, record in layouts.items()]
    assert len(set(samples)) == 1
    other = read(tmp_path / "other", [layouts["messages"]], family="chatml")[0][0]
    assert other.id == samples[0].id and other.text != samples[0].text
    changed = read(tmp_path / "changed", [{"messages": talk("Why?", "Because!")}])[0][0]
    assert changed.id != samples[0].id


def test_ids_of_a_field_a_limit_and_another_field(tmp_path: Path) -> None:
    records = [{"n": n, "chat": json.dumps(talk("Why?", f"Because {n}."))} for n in range(5)]
    samples, counts = read(tmp_path, records, id="n", limit=3, field="chat")
    assert [sample.id for sample in samples] == ["0", "1", "2"]
    assert (counts.turns, counts.targets) == (6, 3)


def test_a_system_message_for_conversations_that_have_none(tmp_path: Path) -> None:
    own = [system("Be kind."), *talk("Why?", "Because.")]
    records = [{"messages": talk("Why?", "Because.")}, {"messages": own}]
    samples, counts = read(tmp_path, records, system="Be brief.", family="chatml")
    assert [sample.text.partition("<|im_end|>")[0] for sample in samples] == [
        "<|im_start|>system\nBe brief.",
        "<|im_start|>system\nBe kind.",
    ]
    assert counts.turns == 6 and [turn.role for turn in samples[0].turns][:2] == ["system", "user"]


def test_the_same_records_give_the_same_samples(tmp_path: Path) -> None:
    records = [{"messages": THOUGHTFUL, "tools": [CLOCK]}, {"messages": talk("Why?", "Because.")}]
    found, source = corpus(tmp_path, records, tools="tools")
    again, other = corpus(tmp_path, records, tools="tools")
    assert list(found) == list(found) == list(again)
    assert [sample.parts for sample in found] == [sample.parts for sample in again]
    assert source.record == other.record


def test_what_decides_the_samples_is_recorded(tmp_path: Path) -> None:
    arguments = {"enable_thinking": False}
    fields: dict[str, Any] = {"targets": "last", "system": "s", "date": "2026-11-26", "reasoning": False}
    _, source = corpus(tmp_path, [], teacher={"template_arguments": arguments}, **fields)
    assert source.record == ConversationsRecord(
        template=source.reader.template.source,
        arguments=arguments,
        special_tokens=dict(source.reader.template.special_tokens),
        layout="messages",
        system="s",
        targets="last",
        reasoning=False,
        tool_calls=True,
        date="2026-11-26",
    )
    assert source.record.special_tokens["eos_token"] == "<|im_end|>"
    assert source.fields == ["messages"] and source.nested == ["messages"]


def test_a_teacher_that_cannot_read_conversations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="has no chat template: name a file of one in `chat_template`"):
        corpus(tmp_path, [], family=None)
    (tmp_path / "t.jinja").write_text("{{ raise_exception('never') }}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        corpus(tmp_path, [], teacher={"chat_template": str(tmp_path / "t.jinja")})
    assert str(caught.value) == (
        "a question and an answer: the chat template refuses it: never; give another `teacher.chat_template`"
    )
    with pytest.raises(ConfigError, match=r"^unknown layout of conversations 'chat'; available: alpaca, messages, sh"):
        corpus(tmp_path, [], layout="chat")
