"""Any conversation is the same from JSON lines, Parquet and Arrow, whichever keys its messages have."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.conversations.conversation import Conversation
from schemas.conversations.layout import LAYOUTS
from schemas.texts.records import read_records

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
FUNCTION = st.fixed_dictionaries(
    {"name": TEXT, "arguments": st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), min_size=1)}
)
CALL = st.fixed_dictionaries({"function": FUNCTION}, optional={"type": st.just("function"), "id": TEXT})
ASSISTANT = st.fixed_dictionaries(
    {"role": st.just("assistant")},
    optional={
        "content": st.none() | TEXT,
        "thinking": TEXT,
        "tool_calls": st.lists(CALL, max_size=2),
        "name": TEXT,
    },
)
OTHER = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "tool"]), "content": TEXT},
    optional={"tool_call_id": TEXT, "audio": st.none()},
)
TALK = st.tuples(OTHER, st.lists(ASSISTANT | OTHER, max_size=4), ASSISTANT).map(
    lambda parts: {"messages": [parts[0], *parts[1], parts[2]]}
)


def read(path: Path) -> list[Conversation]:
    layout = LAYOUTS.find("messages")
    records = read_records(path, ["messages"], nested=["messages"])
    return [layout.read(record, "messages", None, "") for _, record in records]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=60, deadline=None)
@given(records=st.lists(TALK, min_size=1, max_size=4))
def test_the_same_from_every_table(folder: Path, records: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(records)
    (folder / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    pq.write_table(table, folder / "a.parquet")
    with pa.ipc.new_stream(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    expected = read(folder / "a.jsonl")
    assert len(expected) == len(records)
    assert read(folder / "a.parquet") == read(folder / "a.arrow") == expected
