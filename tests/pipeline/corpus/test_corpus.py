"""Records become samples: every format, and every way in which a record can be wrong, with its place."""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.corpus import Corpus, UniqueIds, content_id, read_corpus
from pipeline.corpus.repeats import Repeats
from pipeline.corpus.sample import Sample
from schemas.configs.extraction import CorpusConfig
from schemas.errors import ConfigError, CorpusError
from tests.corpora import write_lines

RECORDS: list[dict[str, Any]] = [
    {"n": 1, "q": "Why?", "a": "Because é.", "topic": "x"},
    {"n": 2, "q": "", "a": "No question.", "topic": "y"},
    {"n": 3, "q": "How?", "a": "漢字 🙂", "topic": "z"},
]
SAMPLES = [Sample.of_response(str(r["n"]), r["q"], r["a"]) for r in RECORDS]


def config(*files: Path | str, **fields: object) -> CorpusConfig:
    given = {"prompt": "q", "response": "a", "id": "n"} | fields
    return CorpusConfig(files=[str(file) for file in files], **{k: v for k, v in given.items() if v is not None})


def read(*files: Path | str, **fields: object) -> list[Sample]:
    return list(read_corpus(config(*files, **fields)))


def check_unique(corpus: Corpus) -> None:
    ids = UniqueIds()
    for sample in corpus:
        ids.add(sample.id)
    ids.check(corpus)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".ndjson", ".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same_samples_twice(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=2)
    else:
        write_lines(path, RECORDS)
    corpus = read_corpus(config(path))
    assert list(corpus) == SAMPLES
    assert list(corpus) == SAMPLES


def test_folders_and_globs_are_sorted_recursive_and_without_repeats(tmp_path: Path) -> None:
    write_lines(tmp_path / "b.jsonl", RECORDS[1:2])
    write_lines(tmp_path / "a" / "z.jsonl", RECORDS[:1])
    write_lines(tmp_path / "c" / "d" / "e.jsonl.gz", RECORDS[2:])
    (tmp_path / "notes.md").write_text("not a corpus file")
    assert read(tmp_path) == SAMPLES
    assert read(tmp_path / "**" / "*.json*") == SAMPLES
    assert read(tmp_path / "c", tmp_path) == [SAMPLES[2], SAMPLES[0], SAMPLES[1]]
    odd = write_lines(tmp_path / "part[1].jsonl", RECORDS[:1])
    assert read(odd) == SAMPLES[:1]


def test_blank_lines_bom_and_windows_line_ends_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"n":1,"q":"","a":"x"}\r\n\r\n   \n{"n":2,"q":"","a":"\\u2028y"}')
    assert read(path) == [Sample.of_response("1", "", "x"), Sample.of_response("2", "", "\u2028y")]


def test_text_template_and_derived_ids(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", RECORDS)
    assert read(path, text="a", prompt=None, response=None)[0] == Sample.of_response("1", "", "Because é.")
    made = read(path, prompt=None, template="### {q} {{in}} {topic}:\n{q}", id=None)
    begin = made[0].targets[0][0]
    assert made[0].text[:begin] == "### Why? {in} x:\nWhy?"
    prompt, response = made[0].text[:begin].encode(), made[0].text[begin:].encode()
    truth = hashlib.sha256(len(prompt).to_bytes(8, "little") + prompt + response).hexdigest()[:32]
    assert made[0].id == truth
    assert content_id("a", "bc") != content_id("ab", "c")


def test_blank_records_are_counted_or_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [RECORDS[0], {"n": 9, "q": "x", "a": " \n"}, *RECORDS[1:]])
    corpus = read_corpus(config(path, limit=2))
    assert [place.rpartition(":")[2] for place, sample in corpus.read() if sample is None] == ["2"]
    assert list(corpus) == SAMPLES[:2]
    with pytest.raises(CorpusError, match=rf"{path}:2: 'a' is blank"):
        read(path, empty="error")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_null_text_or_response_is_blank(tmp_path: Path, suffix: str) -> None:
    path, records = tmp_path / f"c{suffix}", [RECORDS[0], {**RECORDS[1], "a": None}, RECORDS[2]]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        write_lines(path, records)
    for fields in ({}, {"prompt": None, "response": None, "text": "a"}):
        corpus = read_corpus(config(path, **fields))
        assert [place.rpartition(":")[2] for place, sample in corpus.read() if sample is None] == ["2"]
        assert [sample.id for sample in corpus] == ["1", "3"]
        with pytest.raises(CorpusError, match=rf"{path}:2: 'a' is blank"):
            read(path, empty="error", **fields)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"n": 2, "q": "x"}', "no field 'a'"),
        (b'{"n": 2, "q": null, "a": "y"}', "field 'q' is null, not a string"),
        (b'{"n": 2, "q": ["x"], "a": "y"}', "field 'q' is a list"),
        (b'{"n": true, "q": "x", "a": "y"}', "the id in 'n' is a boolean"),
        (b'{"n": " ", "q": "x", "a": "y"}', "the id in 'n' is empty"),
        (b'{"n": NaN, "q": "x", "a": "y"}', "the id in 'n' is nan; give a string or a finite number"),
        (b'{"n": -1e400, "q": "x", "a": "y"}', "the id in 'n' is -inf; give a string or a finite number"),
        (b'{"n": [1], "q": "x", "a": "y"}', "the id in 'n' is a list; give a string or a number"),
        (b'{"n": 2, "q": "x", "a": "y"', "not JSON"),
        (b'["n"]', "this looks like one long array"),
        (b"{", "seems to span several"),
        (b'"text"', "a record is a JSON object, this is a str"),
        (b'{"n": 2, "q": "x", "a": "\xff"}', "byte 26 is not UTF-8"),
        (b'{"n": 2, "q": "x", "a": "ab\\ud83d"}', r"unpaired surrogate, \\ud83d, at character 2"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"n": 1, "q": "x", "a": "y"}\n' + line + b"\n")
    with pytest.raises(CorpusError, match=rf"^{path}:2: .*{message}"):
        read(path)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there is no corpus file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(CorpusError, match="no file matches"):
        read(tmp_path / "*.jsonl")
    with pytest.raises(CorpusError, match="holds no corpus file"):
        read(tmp_path)
    (tmp_path / "c.txt").write_text("a\tb")
    with pytest.raises(CorpusError, match="not a kind of corpus file"):
        read(tmp_path / "c.txt")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1, "q": "", "a": "x"}\n' * 100)[:40])
    with pytest.raises(CorpusError, match=r"cannot read .*c\.jsonl\.gz"):
        read(tmp_path / "c.jsonl.gz")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(CorpusError, match=r"cannot read .*c\.parquet"):
        read(tmp_path / "c.parquet")
    pq.write_table(pa.Table.from_pylist([{"n": 1, "a": "x"}]), tmp_path / "d.parquet")
    with pytest.raises(CorpusError, match=r"d\.parquet: no column 'q'; available: 'n', 'a'"):
        read(tmp_path / "d.parquet")


def test_csv_is_read_by_its_header(tmp_path: Path) -> None:
    """Quotes, commas and line ends in a field, a byte-order mark, a name that is empty, as pandas leaves it."""
    path = tmp_path / "c.csv"
    path.write_bytes(b'\xef\xbb\xbf,q,a\r\n1,"Why, ""then""?","Because\n\xc3\xa9."\r\n\r\n2,,No question.\n')
    corpus = read_corpus(config(path, id=""))
    assert list(corpus) == [
        Sample.of_response("1", 'Why, "then"?', "Because\né."),
        Sample.of_response("2", "", "No question."),
    ]
    assert [place for place, _ in corpus.read()] == [f"{path}:3", f"{path}:5"]
    with pytest.raises(CorpusError, match=rf"{path}:3: no field 'n'; available: '', 'q', 'a'"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"n,q,a\n1,x,y\n2,x,y,z\n", ":3: 4 fields, but the header names 3"),
        (b"n,q,a\n1,x\n", ":2: 2 fields, but the header names 3"),
        (b"n,q,q\n1,x,y\n", ":1: the header names 'q' twice"),
        (b'n,q,a\n1,"x"x,y\n', ":2: not CSV"),
        (b"n,q,a\n1,x,\xff\n", ": not UTF-8, after line"),
    ],
)
def test_bad_csv_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=f"{tmp_path / 'c.csv'}{message}"):
        read(tmp_path / "c.csv")


@pytest.mark.parametrize("template", ["no field", "{}", "{0}", "{q.__class__}", "{q[0]}", "{q!r}", "{q:>9}", "{q"])
def test_a_template_is_plain_field_names(tmp_path: Path, template: str) -> None:
    path = write_lines(tmp_path / "c.jsonl", RECORDS)
    with pytest.raises(ConfigError, match=r"corpus\.template"):
        read(path, prompt=None, template=template)


@pytest.mark.parametrize("written", ["{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:b}", "{a!r:>9}", "{a:{q}}", "{:>9}"])
def test_a_template_is_quoted_as_it_was_written(tmp_path: Path, written: str) -> None:
    path = write_lines(tmp_path / "c.jsonl", RECORDS)
    said = f"corpus.template: {written!r} is not the plain name of a field, as in {{instruction}}"
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        read(path, prompt=None, template=f"{{q}} {written}")


def test_files_without_a_record_are_known(tmp_path: Path) -> None:
    """Up to the limit: what lies beyond it is not looked at."""
    names = ("0.jsonl", "1.csv", "2.jsonl.gz", "3.jsonl", "4.csv", "5.jsonl", "6.jsonl")
    for name in names:
        (tmp_path / name).write_bytes(gzip.compress(b"\n") if name.endswith(".gz") else b"")
    (tmp_path / "1.csv").write_text("other,columns\n")
    write_lines(tmp_path / "3.jsonl", RECORDS[:1])
    write_lines(tmp_path / "5.jsonl", [{"n": 7, "q": "", "a": " "}, RECORDS[2]])
    without: list[Path] = []
    read_records = [sample for _, sample in read_corpus(config(tmp_path)).read(without)]
    assert read_records == [SAMPLES[0], None, SAMPLES[2]]
    assert [path.name for path in without] == ["0.jsonl", "1.csv", "2.jsonl.gz", "4.csv", "6.jsonl"]
    without.clear()
    assert len(list(read_corpus(config(tmp_path, limit=2)).read(without))) == 3
    assert [path.name for path in without] == ["0.jsonl", "1.csv", "2.jsonl.gz", "4.csv"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_an_empty_compressed_file_was_cut(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"c.jsonl{suffix}").write_bytes(b"")
    with pytest.raises(CorpusError, match=rf"^cannot read .*c\.jsonl\{suffix}: the compressed stream ends before"):
        read(tmp_path)


def test_an_id_given_twice_names_both_places(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "1.jsonl", RECORDS)
    second = write_lines(tmp_path / "2.jsonl", [{"n": 4, "q": "", "a": "x"}, {"n": "3", "q": "", "a": "y"}])
    corpus = read_corpus(config(first, second))
    with pytest.raises(CorpusError, match=rf"{second}:2 has the id '3' that {first}:3 has already"):
        check_unique(corpus)
    check_unique(read_corpus(config(first)))


def test_repeated_content_tells_the_way_out(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [*RECORDS, RECORDS[0]])
    with pytest.raises(CorpusError, match=rf"{path}:4 repeats .* of {path}:1, .*`corpus.repeats: skip` leaves such"):
        check_unique(read_corpus(config(path, id=None)))


def test_repeats_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    again, other = RECORDS[0], {**RECORDS[2], "n": 7}
    path = write_lines(tmp_path / "c.jsonl", [*RECORDS, again, again, other])
    without, repeats = read_corpus(config(path, id=None, repeats="skip")), Repeats()
    left_out = [place.rpartition(":")[2] for place, sample in without.read(repeats=repeats) if sample is None]
    assert left_out == ["4", "5", "6"] and repeats.found == 3
    assert [(sample.text, sample.targets) for sample in without] == [(s.text, s.targets) for s in SAMPLES]
    check_unique(without)
    named = [sample.id for sample in read_corpus(config(path, repeats="skip"))]
    assert named == ["1", "2", "3", "7"]  # what has an id of its own is no repeat
    assert read(path, repeats="skip", limit=3) == SAMPLES  # of those that are not left out


def test_an_id_with_two_contents_is_no_repeat(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [RECORDS[0], {**RECORDS[0], "a": "Because."}])
    with pytest.raises(CorpusError, match=rf"{path}:2 has the id '1' that {path}:1 has already"):
        check_unique(read_corpus(config(path, repeats="skip")))
