"""Folders that `datasets` 5.2 saved, and what can be wrong with one."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import CorpusError
from schemas.texts.files import find_files
from schemas.texts.records import read_records
from schemas.texts.saved import require_one_split, saved_files

GOLDEN = Path(__file__).parents[2] / "golden" / "datasets"
SHARDS = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def state(folder: Path, **content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "state.json").write_text(json.dumps(content))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        find_files([str(folder)])
    return str(caught.value)


def test_the_data_are_read_without_the_caches_beside_them() -> None:
    """`filter` and `map` keep what they computed as tables of the same folder: read too, rows would come twice."""
    assert saved_files(GOLDEN / "one") == [GOLDEN / "one" / name for name in SHARDS]
    found = find_files([str(GOLDEN / "one")])
    assert [path.name for path in found.files] == SHARDS
    assert {path.name: why for path, why in found.left_out} == {
        "cache-ce754c1daa13eec8.arrow": "not of the saved data set",
        "cache-fedfed78891f5cce.arrow": "not of the saved data set",
        "dataset_info.json": "describes a data set",
        "state.json": "describes a data set",
    }
    rows = [row for file in found.files for _, row in read_records(file, ["messages"], nested=["messages"])]
    assert [len(row["messages"]) for row in rows] == [2, 5, 4]


def test_the_data_are_read_in_the_order_of_their_record(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "one", tmp_path / "m")
    backwards = [{"filename": name} for name in reversed(SHARDS)]
    state(tmp_path / "m", _data_files=backwards)
    for name in ("a.jsonl", "z.jsonl"):
        (tmp_path / name).write_text('{"text": "x"}\n')
    names = [path.name for path in find_files([str(tmp_path)]).files]
    assert names == ["a.jsonl", *reversed(SHARDS), "z.jsonl"]


def test_splits_are_not_mixed() -> None:
    splits = GOLDEN / "splits"
    said = (
        f"the folder {splits} is a data set of 2 splits, 'train', 'test', which are not read as one corpus; "
        f"name the one that is meant: {splits}/train"
    )
    assert refusal(splits) == refusal(GOLDEN) == said
    files = find_files([str(splits / "test")]).files
    assert [record["text"] for file in files for _, record in read_records(file, ["text"])] == ["b"]
    assert len(find_files([str(splits / "train"), str(splits / "test")]).files) == 2


def test_one_split_alone_is_a_corpus(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "splits" / "train", tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    require_one_split(tmp_path)
    assert [path.parent.name for path in find_files([str(tmp_path)]).files] == ["train"]
    for content in ("[]", '{"splits": "train"}', '{"splits": [1]}'):
        (tmp_path / "dataset_dict.json").write_text(content)
        assert refusal(tmp_path).startswith(f"{tmp_path / 'dataset_dict.json'} does not name the splits of a data set")


def test_a_data_set_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "one", tmp_path / "m")
    (tmp_path / "m" / SHARDS[1]).unlink()
    lacks = f"the data set {tmp_path / 'm'} lacks files that state.json names: "
    assert refusal(tmp_path / "m") == f"{lacks}'{SHARDS[1]}'; save it again"
    state(tmp_path / "m", _data_files=[{"filename": f"../m/{SHARDS[0]}"}])
    assert refusal(tmp_path / "m") == f"{lacks}'../m/{SHARDS[0]}'; save it again"
    state(tmp_path / "m", _data_files=[{"filename": SHARDS[0]}], _indices_data_files=[{"filename": "indices.arrow"}])
    assert refusal(tmp_path / "m").endswith(
        "is saved with an index of its rows; save it again with `flatten_indices()`"
    )
    for wrong in ([SHARDS[0]], [{"name": SHARDS[0]}], None):
        state(tmp_path / "m", _data_files=wrong)
        assert refusal(tmp_path / "m").endswith("does not say which files are the data; save the data set again")
    (tmp_path / "m" / "state.json").write_text("{")
    assert refusal(tmp_path / "m").startswith(
        f"cannot read {tmp_path / 'm' / 'state.json'}, which describes a data set:"
    )


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    assert saved_files(tmp_path) is None
    assert saved_files(state(tmp_path, step=3)) is None
    (tmp_path / "state.json").write_text("[]")
    assert saved_files(tmp_path) is None


def test_a_description_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "endless").mkdir()
    (tmp_path / "endless" / "state.json").symlink_to("/dev/zero")
    (tmp_path / "silent").mkdir()
    os.mkfifo(tmp_path / "silent" / "dataset_dict.json")
    with pytest.raises(CorpusError, match=r"state.json, which describes a data set: it is a device"):
        saved_files(tmp_path / "endless")
    with pytest.raises(CorpusError, match=r"dataset_dict.json, which describes a data set: it is a pipe"):
        require_one_split(tmp_path / "silent")
