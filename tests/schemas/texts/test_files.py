"""No file of a folder is left out without a word: read, known not to be data, named as left out, or refused."""

import bz2
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import CorpusError
from schemas.texts.files import find_files
from schemas.texts.records import read_records


def line(text: str) -> bytes:
    return (json.dumps({"text": text}) + "\n").encode()


def texts(*patterns: Path | str) -> list[str]:
    files = find_files([str(pattern) for pattern in patterns]).files
    return [record["text"] for file in files for _, record in read_records(file, ["text"])]


def test_compressed_and_capital_names_are_read_and_hidden_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress(line("b")))
    (tmp_path / "c.JSONL").write_bytes(line("c"))
    (tmp_path / "d.jsonl.bz2").write_bytes(bz2.compress(line("d")))
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a-checkpoint.jsonl").write_bytes(line("stale"))
    (tmp_path / ".e.jsonl").write_bytes(line("hidden"))
    (tmp_path / "README.md").write_text("about")
    assert texts(tmp_path) == ["a", "b", "c", "d"]
    left_out = {path.relative_to(tmp_path).as_posix(): why for path, why in find_files([str(tmp_path)]).left_out}
    assert left_out == {".ipynb_checkpoints/a-checkpoint.jsonl": "in a hidden folder", ".e.jsonl": "hidden"}
    assert texts(tmp_path / ".e.jsonl") == ["hidden"]  # named, it is read
    assert find_files([str(tmp_path), str(tmp_path / ".e.jsonl")]).left_out == (
        (tmp_path / ".ipynb_checkpoints" / "a-checkpoint.jsonl", "in a hidden folder"),
    )


def test_what_datasets_and_the_hub_leave_is_read_without_its_descriptions(tmp_path: Path) -> None:
    table = pa.table({"text": ["one", "two"]})
    saved, hub = tmp_path / "saved", tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    saved.mkdir()
    with pa.ipc.new_stream(str(saved / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (saved / "state.json").write_text(json.dumps({"_split": "train"}, indent=2))
    (saved / "dataset_info.json").write_text(json.dumps({"features": {}}, indent=2))
    pq.write_table(table, hub / "data" / "train-00000-of-00001.parquet")
    (hub / "dataset_infos.json").write_text('{"default": {}}')
    assert texts(saved) == texts(hub) == ["one", "two"]
    assert {path.name for path, _ in find_files([str(saved)]).left_out} == {"state.json", "dataset_info.json"}


def test_a_file_of_an_unknown_kind_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    (tmp_path / "b.xlsx").write_bytes(b"PK")
    with pytest.raises(CorpusError, match=r"holds files that cannot be read as records .*'b\.xlsx'; name those"):
        find_files([str(tmp_path)])
    with pytest.raises(CorpusError, match=r"b\.xlsx: not a kind of corpus file"):
        find_files([str(tmp_path / "*")])
    assert texts(tmp_path / "*.jsonl") == ["a"]


def test_special_files_and_broken_links_of_a_folder_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "none")
    with pytest.raises(CorpusError, match=r"cannot be read as records .*'a\.jsonl', 'b\.jsonl'"):
        find_files([str(tmp_path)])
    with pytest.raises(CorpusError, match=r"a\.jsonl: it is a pipe, and a regular file is wanted"):
        find_files([str(tmp_path / "a.jsonl")])


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.jsonl").write_bytes(line("b"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.jsonl").write_bytes(line("a"))
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "round").symlink_to(data)
    assert texts(data) == ["a", "b"]


def test_folders_that_a_glob_matches_are_read(tmp_path: Path) -> None:
    for part in ("1", "2"):
        (tmp_path / f"part{part}").mkdir()
        (tmp_path / f"part{part}" / "a.jsonl").write_bytes(line(part))
    assert texts(tmp_path / "part*") == ["1", "2"]
    assert texts(tmp_path / "**" / "*") == ["1", "2"]


@pytest.mark.parametrize("name", ["nobody://bucket/corpus.jsonl", "s3://bucket/../a.jsonl", "s3:/a.jsonl"])
def test_what_is_no_url_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(CorpusError, match=r"mount the storage|a URL is s3://name/name"):
        find_files([name])


@pytest.mark.parametrize("name", ["a\x00b.jsonl", "a\ud800.jsonl", "x" * 300 + ".jsonl", "~nobody-at-all/a.jsonl"])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(CorpusError):
        find_files([name])
