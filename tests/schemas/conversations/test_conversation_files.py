"""Conversations in files of every format: the same conversation, whatever the file and the layout of its records."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.conversations.conversation import Conversation, conversation_id
from schemas.conversations.layout import LAYOUTS
from schemas.errors import CorpusError
from schemas.texts.files import find_files
from schemas.texts.records import read_records

GOLDEN = Path(__file__).parents[2] / "golden" / "datasets"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["a"]}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
ASKED = {"role": "user", "content": "Grüezi 👋\n"}
RECORDS: dict[str, list[dict[str, Any]]] = {
    "messages": [
        {"messages": [ASKED, {"role": "assistant", "content": " Hello. "}], "tools": None},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                ASKED,
                {"role": "assistant", "content": None, "reasoning_content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "", "tool_call_id": "c1"},
                {"role": "assistant", "content": "שלום", "thinking": "Hm"},
            ],
            "tools": [TOOL],
        },
    ],
    "sharegpt": [
        {
            "conversations": [{"from": "human", "value": "a\tb"}, {"from": "gpt", "value": '"c",'}],
            "system": "Be brief.",
            "tools": [TOOL],
        },
        {
            "conversations": [
                {"from": "human", "value": "q", "weight": 0.0},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}', "weight": 1.0},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "It is 2."},
            ],
            "system": None,
            "tools": [],
        },
    ],
    "alpaca": [
        {"instruction": "Add.", "input": "1, 1", "output": "2", "tools": [TOOL]},
        {"instruction": "Say hello.", "input": None, "output": "Hello.", "tools": None},
    ],
}


def as_lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def as_csv(records: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    for record in records:
        cells = {key: json.dumps(value) if isinstance(value, list) else value for key, value in record.items()}
        writer.writerow(cells)
    return text.getvalue().encode()


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records), sink, row_group_size=1)
    return bytes(sink.getvalue())


def as_parquet_of_json(records: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    rows = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in record.items()} for record in records]
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


def as_arrow(make: Callable[..., Any]) -> Callable[[list[dict[str, Any]]], bytes]:
    def write(records: list[dict[str, Any]]) -> bytes:
        table, sink = pa.Table.from_pylist(records), pa.BufferOutputStream()
        with make(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
        return bytes(sink.getvalue())

    return write


FILES: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a.jsonl": as_lines,
    "a.jsonl.gz": lambda records: gzip.compress(as_lines(records)),
    "a.jsonl.bz2": lambda records: bz2.compress(as_lines(records)),
    "a.jsonl.xz": lambda records: lzma.compress(as_lines(records)),
    "a.jsonl.zst": lambda records: bytes(pa.compress(as_lines(records), "zstd", asbytes=True)),
    "a.csv": as_csv,
    "a.csv.gz": lambda records: gzip.compress(as_csv(records)),
    "a.parquet": as_parquet,
    "json.parquet": as_parquet_of_json,
    "file.arrow": as_arrow(pa.ipc.new_file),
    "stream.arrow": as_arrow(pa.ipc.new_stream),
}


def read(path: Path, name: str, tools: str | None = "tools") -> list[Conversation]:
    layout = LAYOUTS.find(name)
    field = layout.field or ""
    fields, nested = layout.fields(field, tools), layout.nested(field, tools)
    records = read_records(path, fields, optional=layout.optional, nested=nested)
    return [layout.read(record, field, tools, f"{path.name}:{line}") for line, record in records]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", RECORDS)
def test_a_conversation_is_the_same_in_every_format(tmp_path: Path, name: str, file: str) -> None:
    layout = LAYOUTS.find(name)
    expected = [layout.read(record, layout.field or "", "tools", "") for record in RECORDS[name]]
    (tmp_path / file).write_bytes(FILES[file](RECORDS[name]))
    found = read(tmp_path / file, name)
    assert found == expected
    assert [conversation_id(one) for one in found] == [conversation_id(one) for one in expected]


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("a.jsonl.")])
def test_optional_fields_may_be_missing_and_others_not(tmp_path: Path, file: str) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    (tmp_path / file).write_bytes(FILES[file]([{"conversations": turns}]))
    assert [message.content for message in read(tmp_path / file, "sharegpt", None)[0].messages] == ["q", "a"]
    (tmp_path / file).write_bytes(FILES[file]([{"instruction": "q", "output": "a"}]))
    assert [message.content for message in read(tmp_path / file, "alpaca", None)[0].messages] == ["q", "a"]
    with pytest.raises(
        CorpusError, match=rf"{file}.*: no (field|column) 'messages'; available: 'instruction', 'output'$"
    ):
        read(tmp_path / file, "messages", None)


@pytest.mark.parametrize("file", ["a.parquet", "file.arrow", "stream.arrow"])
def test_a_table_without_the_column_of_tools_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(FILES[file](RECORDS["messages"]))
    with pytest.raises(CorpusError, match=rf"{file}: no column 'tool'; available: 'messages', 'tools'$"):
        read(tmp_path / file, "messages", "tool")


@pytest.mark.parametrize("file", FILES)
def test_a_refusal_names_file_line_and_field(tmp_path: Path, file: str) -> None:
    """A table fills the keys of every message that has not the fault with null."""
    faulty = [{**RECORDS["messages"][0]["messages"][0], "audio": {"id": "x"}}, {"role": "assistant", "content": "a"}]
    records = [RECORDS["messages"][0], {"messages": faulty, "tools": None}]
    (tmp_path / file).write_bytes(FILES[file](records))
    line = 3 if file.startswith("a.csv") else 2  # the header is the first
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / file, "messages", None)
    said = "message 1 has 'audio', an object, which cannot be read; take it out of the records"
    assert str(caught.value) == f"{file}:{line}: field 'messages': {said}"


def test_what_datasets_saved_is_what_it_was_given(tmp_path: Path) -> None:
    """Written by `datasets` 5.2 from the same rows: arguments and tools in its type for JSON, absent keys as null."""
    expected = read(GOLDEN / "rows.jsonl", "messages")
    assert [len(one.messages) for one in expected] == [2, 5, 4] and len(expected[1].tools) == 1
    calls = expected[1].messages[2].tool_calls
    assert [call.arguments for call in calls] == [{"city": "Zürich", "days": [1, None]}, {}]
    assert read(GOLDEN / "rows.parquet", "messages") == expected
    files = find_files([str(GOLDEN / "one")]).files
    assert [one for file in files for one in read(file, "messages")] == expected
