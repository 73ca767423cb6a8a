"""One reader for every file of records: each format gives the same records, and each fault has one message."""

import bz2
import csv
import gzip
import json
import lzma
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import CorpusError
from schemas.texts.format import FORMATS, Format, Record, Source, find_format
from schemas.texts.formats import json_lines
from schemas.texts.records import read_records
from trainer.evaluation.held_out_texts import read_texts
from trainer.evaluation.sentence_pairs import SentencePair, read_pairs

RECORDS: list[Record] = [
    {"id": "1", "text": 'One, "two"'},
    {"id": "2", "text": "漢字 é 🙂"},
    {"id": "3", "text": "last"},
]
TABLE = pa.Table.from_pylist(RECORDS)


def as_lines() -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()


def as_csv() -> bytes:
    rows = [f'{r["id"]},"{r["text"].replace(chr(34), chr(34) * 2)}"' for r in RECORDS]
    return "\r\n".join(["id,text", *rows]).encode()


def as_tsv() -> bytes:
    return "\n".join(["id\ttext", *(f"{r['id']}\t{r['text']}" for r in RECORDS)]).encode()


def as_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink, row_group_size=2)
    return bytes(sink.getvalue())


def as_arrow(make: Callable[[pa.BufferOutputStream, pa.Schema], pa.ipc.RecordBatchStreamWriter]) -> bytes:
    sink = pa.BufferOutputStream()
    with make(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return bytes(sink.getvalue())


CONTENTS: dict[str, Callable[[], bytes]] = {
    ".jsonl": as_lines,
    ".json": as_lines,
    ".ndjson": as_lines,
    ".csv": as_csv,
    ".tsv": as_tsv,
    ".parquet": as_parquet,
    ".arrow": lambda: as_arrow(pa.ipc.new_stream),
    ".feather": lambda: as_arrow(pa.ipc.new_file),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


def test_every_suffix_is_tried_here() -> None:
    assert {suffix for format_ in FORMATS.values() for suffix in format_.suffixes} == set(CONTENTS)


@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_format_gives_the_same_records(tmp_path: Path, suffix: str) -> None:
    for name in (f"a{suffix}", f"B{suffix.upper()}"):
        (tmp_path / name).write_bytes(CONTENTS[suffix]())
        assert [record for _, record in read_records(tmp_path / name, ["id", "text"])] == RECORDS
        assert read_texts(tmp_path / name) == [record["text"] for record in RECORDS]


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_text_formats_are_read_compressed(tmp_path: Path, suffix: str, packer: str) -> None:
    packed = PACKERS[packer](CONTENTS[suffix]())
    path = tmp_path / f"a{suffix}{packer}"
    path.write_bytes(packed)
    assert [record for _, record in read_records(path)] == RECORDS
    path.write_bytes(packed + packed if suffix == ".jsonl" else packed)  # two streams in a row, as `cat` makes them
    assert [record for _, record in read_records(path)] == RECORDS * (2 if suffix == ".jsonl" else 1)
    path.write_bytes(packed[:-6])
    with pytest.raises(CorpusError, match=rf"cannot read {path}: "):
        list(read_records(path))


def test_a_binary_table_cannot_be_read_through_a_compression(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a parquet file cannot be read through \.gz; unpack it"):
        find_format(tmp_path / "a.parquet.GZ")


def test_what_is_given_twice_is_refused(tmp_path: Path) -> None:
    """In silence the last would win."""
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"text": "a"}\n{"text": "b", "text": "c"}\n')
    with pytest.raises(CorpusError, match=rf"^{twice}:2: the key 'text' is given twice"):
        list(read_records(twice))
    columns = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(columns, tmp_path / "twice.parquet")
    with pa.ipc.new_stream(str(tmp_path / "twice.arrow"), columns.schema) as writer:
        writer.write_table(columns)
    (tmp_path / "twice.csv").write_text("text,text\na,b\n")
    for suffix in (".parquet", ".arrow", ".csv"):
        with pytest.raises(CorpusError, match=r"twice\..*'text'"):
            list(read_records(tmp_path / f"twice{suffix}", ["text"]))


def test_three_readers_are_one(tmp_path: Path) -> None:
    """A byte-order mark, a null sentence and a CSV of texts each went wrong with one of three readers."""
    mark = b"\xef\xbb\xbf"
    (tmp_path / "pairs.csv").write_bytes(mark + b"sentence1,sentence2,score\na,b,1\nc,d,2\n")
    assert read_pairs(tmp_path / "pairs.csv") == [SentencePair("a", "b", 1), SentencePair("c", "d", 2)]
    (tmp_path / "bare.csv").write_bytes(mark + b'"a",b,1\nc,d,2\n')
    assert read_pairs(tmp_path / "bare.csv") == [SentencePair("a", "b", 1), SentencePair("c", "d", 2)]
    for value, kind in (("null", "null"), ('["x", "y"]', "a list")):
        (tmp_path / "pairs.jsonl").write_text(f'{{"sentence1": {value}, "sentence2": "b", "score": 1}}\n')
        with pytest.raises(CorpusError, match=rf"pairs\.jsonl:1: field 'sentence1' is {kind}, not a string"):
            read_pairs(tmp_path / "pairs.jsonl")
    (tmp_path / "held.jsonl").write_bytes(mark + b'{"text": "abc"}\n')
    (tmp_path / "held.txt").write_bytes(mark + b"abc\n")
    (tmp_path / "held.csv").write_text('id,text\n1,"abc"\n')
    for name in ("held.jsonl", "held.txt", "held.csv"):
        assert read_texts(tmp_path / name) == ["abc"]
    (tmp_path / "true.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": true}\n')
    with pytest.raises(CorpusError, match="the score True is not a number"):
        read_pairs(tmp_path / "true.jsonl")


def test_a_long_text_of_a_csv_is_read_and_an_open_quote_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "word " * 27_000  # more than the csv module takes by default
    (tmp_path / "long.csv").write_text(f'id,text\n1,"{text}"\n2,short\n')
    assert [record["text"] for _, record in read_records(tmp_path / "long.csv")] == [text, "short"]
    assert csv.field_size_limit() > len(text)
    (tmp_path / "open.csv").write_text('id,text\n1,"never closed\n2,short\n')
    with pytest.raises(CorpusError, match=r"open\.csv:3: not CSV: unexpected end of data"):
        list(read_records(tmp_path / "open.csv"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"n": ' + b"9" * 5_000 + b"}", "a number cannot be read"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"text": "\xff"}', "byte 11 is not UTF-8"),
        (b"\x00\x01\x02", "not JSON"),
        (b'{"\x1b[31mred\\ud800": 1, "\x1b[31mred\\ud800": 1}', "not JSON: Invalid control character"),
        (b'{"\\u001b[31m": 1, "\\u001b[31m": 1}', r"the key '\\x1b\[31m' is given twice"),
    ],
)
def test_a_fault_of_a_line_has_a_true_reason(tmp_path: Path, line: bytes, said: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' + line + b"\n")
    with pytest.raises(CorpusError, match=rf"a\.jsonl:2: {said}"):
        list(read_records(tmp_path / "a.jsonl"))


def test_a_line_without_end_is_refused_at_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of 4 GB: were it read whole, it would take minutes and that much memory."""
    for name in ("a.jsonl", "a.csv", "a.tsv", "a.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(4 << 30)
        with pytest.raises(CorpusError, match=rf"{name}:1: a line of more than 64 MiB"):
            read_texts(tmp_path / name)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "folder.jsonl").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.jsonl"))
    for name, kind in (("pipe", "a pipe"), ("zero", "a device"), ("folder", "a folder"), ("socket", "a socket")):
        for read in (lambda path: list(read_records(path)), read_texts, read_pairs):
            with pytest.raises(CorpusError, match=rf"{name}\.jsonl: it is {kind}, and a regular file is wanted"):
                read(tmp_path / f"{name}.jsonl")
    with pytest.raises(CorpusError, match="no file can have this name"):
        read_texts(tmp_path / "a\ud800.jsonl")
    with pytest.raises(CorpusError, match="no file can have this name"):
        read_texts(tmp_path / "a\x00.jsonl")


def test_damaged_binary_tables_are_refused(tmp_path: Path) -> None:
    for suffix in (".parquet", ".arrow", ".feather"):
        content = CONTENTS[suffix]()
        for damaged in (b"", b"PAR1", b"ARROW1", content[:20], content[: len(content) // 2], b"\xff" * 200):
            (tmp_path / f"a{suffix}").write_bytes(damaged)
            with pytest.raises(CorpusError, match=rf"a\{suffix}: "):
                list(read_records(tmp_path / f"a{suffix}", ["text"]))
    latin1 = pa.table({"text": pa.array([b"one", b"caf\xe9"]).cast(pa.binary()).view(pa.string())})
    with pa.ipc.new_stream(str(tmp_path / "latin1.arrow"), latin1.schema) as writer:
        writer.write_table(latin1)
    with pytest.raises(CorpusError, match=r"latin1\.arrow.*UTF8"):
        list(read_records(tmp_path / "latin1.arrow", ["text"]))


class Shouting(Format):
    """A toy format: lines that end in '!'."""

    name, suffixes, compressible = "shouting", (".loud",), True

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        for number, line in enumerate(source.stream, start=1):
            yield number, {"text": line.decode().strip("!\n")}


def test_a_new_format_is_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by the registry alone, it is read as a corpus and as held-out texts, compressed too."""
    (tmp_path / "a.LOUD.gz").write_bytes(gzip.compress(b"one!\ntwo!\n"))
    with pytest.raises(CorpusError, match="not a kind of record file"):
        list(read_records(tmp_path / "a.LOUD.gz"))
    monkeypatch.setitem(FORMATS.__dict__, "_found", {"json_lines": json_lines.FORMAT, "shouting": Shouting()})
    assert read_texts(tmp_path / "a.LOUD.gz") == ["one", "two"]
    assert [record for _, record in read_records(tmp_path / "a.LOUD.gz")] == [{"text": "one"}, {"text": "two"}]
