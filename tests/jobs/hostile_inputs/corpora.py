"""Hostile corpora and held-out texts."""

import bz2
import gzip
import json
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.jobs.hostile_inputs.world import Input, link, nothing, pipe, put, sparse

PLAN = ("plan", "extract.yaml")
HELD_OUT = ("evaluate", "teacher", "--text", "held.jsonl")
RECORD = {"id": "s0", "prompt": "a ", "text": "b"}


def planned(*files: str, **corpus: Any) -> tuple[str, ...]:
    """`plan` of other files."""
    given = [f"corpus.{key}={json.dumps(value)}" for key, value in corpus.items()]
    return (*PLAN, *(part for one in [f"corpus.files={json.dumps(files)}", *given] for part in ("--set", one)))


def texts_of(file: str) -> tuple[str, ...]:
    """`plan` of a table of texts alone."""
    return planned(file, id=None, prompt=None, response=None, text="text")


def template(text: str) -> tuple[str, ...]:
    """`plan` with that in the place of prompts."""
    return (*PLAN, "--set", "corpus.prompt=null", "--set", f"corpus.template='{text}'")


def lines(*records: Any) -> str:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records)


def saved_elsewhere(name: str) -> Path:
    """A data set that `datasets` saved, whose data lie where they have no business to."""
    put("saved/state.json", json.dumps({"_data_files": [{"filename": name}]}))
    put("secret.arrow", b"")
    return put("saved/a.jsonl", lines(RECORD))


def bomb(name: str, compress: Any) -> None:
    """A few kilobytes that become 65 megabytes, without a line's end."""
    put(name, compress(b'{"id": "a", "prompt": "' + b"x" * (65 << 20)))


def folded_parquet() -> None:
    """A file of some KB whose one value is too long, and stands in two rows."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2, pa.int32()), pa.array(["x" * (65 << 20)]))
    pq.write_table(pa.table({"text": texts}), "corpus.parquet")


def zipped() -> None:
    with zipfile.ZipFile("corpus.zip", "w") as archive:
        archive.writestr("../../outside.jsonl", lines(RECORD))


def arrow_of_absurd_sizes() -> None:
    """An Arrow file whose record batch says that it is larger than the file."""
    table = pa.table({"text": ["a" * 100] * 10})
    with pa.OSFile("corpus.arrow", "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    content = bytearray(Path("corpus.arrow").read_bytes())
    at = content.find(b"\xe8\x03\x00\x00\x00\x00\x00\x00")  # 1000, the length of the texts
    content[at : at + 8] = (1 << 62).to_bytes(8, "little")
    Path("corpus.arrow").write_bytes(content)


def loop() -> None:
    put("many/a.jsonl", lines(RECORD))
    link("many/again", "../many")


INPUTS: dict[str, Input] = {
    "a line of 10 MB": Input(
        partial(put, "corpus.jsonl", lines(RECORD | {"text": "x" * 10_000_000})),
        PLAN,
        "corpus.jsonl:1: a text of 10,000,002 characters, and a sample has up to",
    ),
    "a line of 70 MB": Input(
        partial(put, "corpus.jsonl", "x" * 70_000_000), PLAN, "corpus.jsonl:1: a line of more than 64 MiB"
    ),
    "a JSON line nested 100,000 deep": Input(
        partial(put, "corpus.jsonl", "[" * 100_000), PLAN, "corpus.jsonl:1: nested too deeply"
    ),
    "a number of a million digits": Input(
        partial(put, "corpus.jsonl", '{"id": ' + "9" * 1_000_000 + "}\n"),
        PLAN,
        "corpus.jsonl:1: a number cannot be read: Exceeds the limit",
    ),
    "NUL bytes for a text": Input(partial(put, "corpus.jsonl", b"\0" * 4096), PLAN, "corpus.jsonl:1: not JSON"),
    "a NUL in a text": Input(partial(put, "corpus.jsonl", lines(RECORD | {"text": "a\0b"})), PLAN, "fingerprint", 0),
    "UTF-16": Input(
        partial(put, "corpus.jsonl", lines(RECORD).encode("utf-16")), PLAN, "corpus.jsonl:1: byte 1 is not UTF-8"
    ),
    "overlong UTF-8": Input(
        partial(put, "corpus.jsonl", b'{"id": "a", "prompt": "\xc0\xaf", "text": "b"}\n'),
        PLAN,
        "corpus.jsonl:1: byte 24 is not UTF-8",
    ),
    "half a character as bytes": Input(
        partial(put, "corpus.jsonl", b'{"id": "a", "prompt": "\xed\xa0\x80", "text": "b"}\n'),
        PLAN,
        "corpus.jsonl:1: byte 24 is not UTF-8",
    ),
    "half a character in an id": Input(
        partial(put, "corpus.jsonl", lines('{"id": "\\ud800", "prompt": "a", "text": "b"}')),
        PLAN,
        "corpus.jsonl:1: field 'id' has an unpaired surrogate",
    ),
    "an id that climbs out": Input(
        partial(put, "corpus.jsonl", lines(RECORD | {"id": "../../../../etc/passwd"})), PLAN, "fingerprint", 0
    ),
    "an id of a megabyte": Input(
        partial(put, "corpus.jsonl", lines(RECORD | {"id": "../" * 350_000})), PLAN, "fingerprint", 0
    ),
    "an id that is a command": Input(
        partial(put, "corpus.jsonl", lines(RECORD | {"id": "$(touch pwned); `id`\x1b[2J"})), PLAN, "fingerprint", 0
    ),
    "a key given twice": Input(
        partial(put, "corpus.jsonl", lines('{"id": "a", "id": "b", "prompt": "a", "text": "b"}')),
        PLAN,
        "corpus.jsonl:1: the key 'id' is given twice",
    ),
    "NaN for a text": Input(
        partial(put, "corpus.jsonl", lines('{"id": "a", "prompt": "a", "text": NaN}')),
        PLAN,
        "corpus.jsonl:1: field 'text' is a number, not a string",
    ),
    "/dev/zero linked as a corpus": Input(
        partial(link, "corpus.jsonl"), PLAN, "cannot read corpus.jsonl: it is a device"
    ),
    "a pipe as a corpus": Input(partial(pipe, "corpus.jsonl"), PLAN, "cannot read corpus.jsonl: it is a pipe"),
    "a link to itself as a corpus": Input(
        partial(link, "corpus.jsonl", "corpus.jsonl"), PLAN, "there is no corpus file corpus.jsonl"
    ),
    "a corpus of 4 TB of zeros": Input(
        partial(sparse, "corpus.jsonl"), PLAN, "corpus.jsonl:56: a line of more than 64 MiB"
    ),
    "/dev/stdin as a corpus": Input(nothing, planned("/dev/stdin"), "/dev/stdin: not a kind of corpus file"),
    "a folder that is in itself": Input(loop, planned("many"), "fingerprint", 0),
    "a pipe in a folder": Input(
        lambda: (put("many/a.jsonl", lines(RECORD)), pipe("many/b.jsonl")),
        planned("many"),
        "holds files that cannot be read as records",
    ),
    "a pattern that climbs to the root": Input(
        nothing, planned("../../../../../../../../etc/pass*"), "etc/passwd: not a kind of corpus file"
    ),
    "gzip that unfolds 1,000 times": Input(
        partial(bomb, "corpus.jsonl.gz", gzip.compress),
        planned("corpus.jsonl.gz"),
        "corpus.jsonl.gz:1: a line of more than 64 MiB",
    ),
    "bzip2 that unfolds 100,000 times": Input(
        partial(bomb, "corpus.jsonl.bz2", bz2.compress),
        planned("corpus.jsonl.bz2"),
        "corpus.jsonl.bz2:1: a line of more than 64 MiB",
    ),
    "a zip whose member climbs out": Input(zipped, planned("corpus.zip"), "corpus.zip: not a kind of corpus file"),
    "text named gzip": Input(
        partial(put, "corpus.jsonl.gz", lines(RECORD)),
        planned("corpus.jsonl.gz"),
        "cannot read corpus.jsonl.gz: Not a gzipped file",
    ),
    "Parquet of one text of 65 MB": Input(folded_parquet, texts_of("corpus.parquet"), "corpus.parquet:1"),
    "Parquet with a footer of 2 GB": Input(
        partial(put, "corpus.parquet", b"PAR1" + b"\0" * 64 + (0x7FFFFFFF).to_bytes(4, "little") + b"PAR1"),
        planned("corpus.parquet"),
        "cannot read corpus.parquet",
    ),
    "4 TB of Parquet": Input(
        partial(sparse, "corpus.parquet"), planned("corpus.parquet"), "cannot read corpus.parquet"
    ),
    "Arrow of 2^62 bytes": Input(arrow_of_absurd_sizes, texts_of("corpus.arrow"), "cannot read corpus.arrow"),
    "Arrow with 2 GB of metadata": Input(
        partial(put, "corpus.arrow", b"ARROW1\0\0\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 64),
        planned("corpus.arrow"),
        "cannot read corpus.arrow",
    ),
    "a CSV cell that never ends": Input(
        partial(put, "corpus.csv", 'id,prompt,text\n1,"' + "x" * (65 << 20)),
        planned("corpus.csv"),
        "corpus.csv:2: a line of more than 64 MiB",
    ),
    "a CSV of 100,000 columns": Input(
        partial(put, "corpus.csv", ",".join(map(str, range(100_000))) + "\n" + "," * 99_999 + "\n"),
        planned("corpus.csv"),
        "corpus.csv:2: no field 'text'",
    ),
    "a saved data set that climbs out": Input(
        partial(saved_elsewhere, "../secret.arrow"),
        planned("saved"),
        "lacks files that state.json names: '../secret.arrow'",
    ),
    "a saved data set at /dev/zero": Input(
        lambda: (saved_elsewhere("a.arrow"), link("saved/a.arrow")),
        planned("saved"),
        "holds files that cannot be read as records",
    ),
    "/dev/zero describes a data set": Input(
        lambda: (saved_elsewhere("a.arrow"), link("saved/state.json")),
        planned("saved"),
        "state.json, which describes a data set: it is a device",
    ),
    "a pipe describes a data set": Input(
        lambda: (saved_elsewhere("a.arrow"), pipe("saved/state.json")),
        planned("saved"),
        "state.json, which describes a data set: it is a pipe",
    ),
    "4 TB describe a data set": Input(
        lambda: (saved_elsewhere("a.arrow"), sparse("saved/state.json")),
        planned("saved"),
        "state.json, which describes a data set: it is larger than",
    ),
    "a URL that climbs out": Input(nothing, planned("s3://bucket/../../../etc/passwd"), "'..' is no name for a file"),
    "a URL of an unknown scheme": Input(
        nothing, planned("gopher://host/corpus.jsonl"), "a URL of a scheme that nobody here knows"
    ),
    "a URL that chains schemes": Input(
        nothing, planned("zip://corpus.jsonl::file:///etc/corpus.zip"), "'' is no name for a file"
    ),
    "file:// to a device": Input(nothing, planned("file:///dev/zero"), "/dev/zero: not a kind of corpus file"),
    "a template that formats attributes": Input(
        nothing, template("{prompt.__class__.__mro__}"), "'{prompt.__class__.__mro__}' is not the plain name of a field"
    ),
    "a template of a billion spaces": Input(
        nothing, template("{prompt:1000000000}"), "'{prompt:1000000000}' is not the plain name of a field"
    ),
    "/dev/zero as held-out texts": Input(
        partial(link, "held.jsonl"), HELD_OUT, "cannot read held.jsonl: it is a device"
    ),
    "a pipe as held-out texts": Input(partial(pipe, "held.jsonl"), HELD_OUT, "cannot read held.jsonl: it is a pipe"),
    "held-out texts nested without end": Input(
        partial(put, "held.jsonl", '{"text":' * 100_000), HELD_OUT, "held.jsonl:1: nested too deeply"
    ),
    "a pickle as held-out texts": Input(
        partial(put, "held.jsonl", b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR."),
        HELD_OUT,
        "held.jsonl:1: byte 1 is not UTF-8",
    ),
    "pairs with scores that are none": Input(
        partial(put, "pairs.csv", "a,b,NaN\nc,d,inf\n"),
        ("evaluate", "encoder", "--pairs", "pairs.csv"),
        "pairs.csv:1: the score 'NaN' is not a number",
    ),
}
