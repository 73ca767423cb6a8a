"""A cache of conversations is open: DuckDB says who speaks what, and what is learnt, by the SQL of the README."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.caches import build_cache, extraction
from tests.chats import SAYINGS, chat_model, talk, write_chats
from tests.schemas.conversations.record import assistant, call, result, user
from tests.snippets import snippet

STRANGE = ["👩‍👩‍👧 שלום e\u0301?", "🇪🇪 שלום! “e\u0301”\n\ttoo "]  # DuckDB counts code points, as offsets do
CALLS = [user("Late?"), assistant("I look.", call("clock", {"zone": 1})), result("12:34"), assistant("Yes.")]


@pytest.fixture(scope="module", params=["chatml", "qwen3"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    model = chat_model(folder / "teacher", request.param)
    chats = write_chats(folder / "chats.jsonl", talk(*STRANGE), CALLS)
    corpus: dict[str, Any] = {"files": [str(chats)], "id": "id", "conversations": {}, "prompt": None, "response": None}
    sections: dict[str, Any] = {"teacher": {"max_tokens": 256}, "batching": {"unit_tokens": 100_000}}
    cache = build_cache(extraction(folder / "cache", model, chats, corpus=corpus, **sections))
    named: dict[str, Any] = {"pa": pa, "shard": f"{cache}/shards/00000", "family": request.param}
    exec(snippet("import duckdb"), named)
    return named


def conversations() -> list[list[dict[str, Any]]]:
    return [*(talk(*sayings) for sayings in SAYINGS), talk(*STRANGE), CALLS]


def test_turns_say_who_says_what(answers: dict[str, Any]) -> None:
    found: dict[str, list[tuple[int, str, str, str]]] = {}
    for name, message, role, part, said in answers["turns"]:
        found.setdefault(name, []).append((message, role, part, said))
    for number, messages in enumerate(conversations()):
        contents = [(n, message["role"], message["content"]) for n, message in enumerate(messages)]
        assert [(n, role, said) for n, role, part, said in found[f"c{number}"] if part == "content"] == contents
        ends = [(n, said) for n, _, part, said in found[f"c{number}"] if part == "end"]
        assert ends == [(n, "<|im_end|>") for n, role, _ in contents if role == "assistant"]
    calls = [(n, said) for n, _, part, said in found["c5"] if part == "tool_calls"]
    call_of_qwen = '\n<tool_call>\n{"name": "clock", "arguments": {"zone": 1}}\n</tool_call>'
    assert calls == ([(1, call_of_qwen)] if answers["family"] == "qwen3" else [])


def test_what_is_learnt_is_what_assistants_say(answers: dict[str, Any]) -> None:
    found: dict[str, list[str]] = {}
    for name, learnt in answers["learnt"]:
        found.setdefault(name, []).append(learnt)
    for number, messages in enumerate(conversations()[:-1]):
        said = [message["content"] for message in messages if message["role"] == "assistant"]
        assert found[f"c{number}"] == [f"{content}<|im_end|>" for content in said]
    assert found["c5"][-1] == "Yes.<|im_end|>" and found["c5"][0].startswith("I look.")
