"""What must hold of a shard's samples, at its edges, on made-up shards: the first sample that is wrong is named."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.cache.open_shard import Shard
from schemas.cache.proof import prove_samples
from schemas.cache.samples import SAMPLES_SCHEMAS
from schemas.cache.shard import ShardRecord
from schemas.cache.teacher import EmbeddingRecord, TeacherRecord
from schemas.cache.ways_out import redo
from schemas.errors import CacheError

TEACHER = TeacherRecord(model="m", kind="causal", num_layers=1, hidden_size=4, vocab_size=8, max_tokens=16)
Rows = list[dict[str, Any]]
TURN = {"message": 0, "role": "é", "part": "content", "start": 0, "end": 1}
STRUCTURE = '{"messages":{"1":{"role":"tool"}},"tools":[{}]}'


BEYOND_ASCII: dict[str, Any] = {
    "sample_id": "a",
    "text": "é🙂漢",
    "targets": [[0, 1], [1, 2]],
    "turns": [],
    "structure": STRUCTURE,
    "truncated": True,
    "token_ids": [0, 7, 7, 3],
    "token_offsets": [[0, 0], [0, 1], [1, 3], [3, 3]],
    "words": [[0, 1], [1, 3]],
    "noun_phrases": [[0, 3]],
    "verb_phrases": [],
    "row_start": 0,
    "row_count": 4,
    "token_rows": [[0, 1], [3, 4]],
    "kept_start": 0,
}
NOTHING: dict[str, Any] = {
    "sample_id": "b",
    "text": "",
    "targets": [],
    "turns": [TURN | {"role": "system", "end": 0}],
    "structure": "",
    "truncated": False,
    "token_ids": [],
    "token_offsets": [],
    "words": [],
    "noun_phrases": [],
    "verb_phrases": [],
    "row_start": 4,
    "row_count": 0,
    "token_rows": [],
    "kept_start": 2,
}
THREE_WORDS: dict[str, Any] = {
    "sample_id": "c",
    "text": "one two",
    "targets": [[0, 3], [4, 7]],
    "turns": [TURN | {"start": 0, "end": 3}, TURN | {"start": 3, "end": 3}, TURN | {"start": 4, "end": 7}],
    "structure": "",
    "truncated": False,
    "token_ids": [1, 2, 3, 4],
    # A token before its text, one of two tokens of one character, and one that stands for nothing at the start.
    "token_offsets": [[0, 3], [3, 4], [3, 7], [0, 0]],
    "words": [[0, 3], [0, 3], [4, 7]],
    "noun_phrases": [[0, 3], [4, 7]],
    "verb_phrases": [[0, 7]],
    "row_start": 4,
    "row_count": 4,
    "token_rows": [[0, 2], [2, 4]],
    "kept_start": 2,
}


def sound() -> Rows:
    """Three samples, at every edge of what may be: a text of code points beyond ASCII, none, and one of three words."""
    return copy.deepcopy([BEYOND_ASCII, NOTHING, THREE_WORDS])


def of_version_1() -> Rows:
    """The same, with a prompt's end for what is learnt."""
    return [row | {"prompt_end": end} for row, end in zip(sound(), (3, 0, 0), strict=True)]


def shard(folder: Path, rows: Rows, version: int = 2, **recorded: int) -> Shard:
    found = {"samples": len(rows), "tokens": 8, "kept": 6 if version == 2 else 8, "truncated": 1, **recorded}
    schema = SAMPLES_SCHEMAS[version]
    with pa.OSFile(str(folder / "samples.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    return Shard(folder, ShardRecord(fingerprint="f", unit=0, overlong=0, files={}, **found))


def said(opened: Shard, teacher: TeacherRecord = TEACHER) -> str:
    with pytest.raises(CacheError) as refused:
        prove_samples(opened, teacher)
    way_out = f"; {redo(opened.path)}"
    assert str(refused.value).endswith(way_out) and str(refused.value).startswith(f"{opened.path}/")
    return str(refused.value)[len(str(opened.path)) + 1 : -len(way_out)]


def test_what_stands_at_every_edge_is_sound(tmp_path: Path) -> None:
    prove_samples(shard(tmp_path, sound()), TEACHER)
    prove_samples(shard(tmp_path, of_version_1(), version=1), TEACHER)


def test_a_shard_without_samples_is_sound(tmp_path: Path) -> None:
    prove_samples(shard(tmp_path, [], tokens=0, kept=0, truncated=0), TEACHER)


NO_STRUCTURE = "its structure is not that of a conversation"
WRONG: list[tuple[str, str, Any, str]] = [
    ("a", "targets", [[0, 1], [2, 4]], "its targets leave its text"),
    ("b", "targets", [[0, 1]], "its targets leave its text"),
    ("c", "targets", [[-1, 2]], "its targets leave its text"),
    ("c", "targets", [[2, 2]], "its targets leave its text"),
    ("c", "targets", [[2, 1]], "its targets leave its text"),
    ("c", "targets", [[-(2**31), 2**31 - 1]], "its targets leave its text"),
    ("c", "targets", [[4, 7], [0, 3]], "its targets overlap or are out of order"),
    ("c", "targets", [[0, 3], [2, 7]], "its targets overlap or are out of order"),
    ("a", "turns", [TURN, TURN | {"start": 1, "end": 4}], "its turns leave its text"),
    ("c", "turns", [TURN | {"start": 3, "end": 2}], "its turns leave its text"),
    ("c", "turns", [TURN | {"start": -1}], "its turns leave its text"),
    ("c", "turns", [TURN, TURN], "its turns overlap or are out of order"),
    ("c", "turns", [TURN | {"role": ""}], "a turn of it has no role"),
    ("c", "turns", [TURN | {"message": -1}], "a turn of it is of no message"),
    ("c", "turns", [TURN | {"part": "thought"}], "a turn of it is none of content, reasoning, tool_calls, end"),
    ("c", "structure", '{"messages":{"1":{"role":"tool","block":[5,3]}},"tools":[]}', NO_STRUCTURE),
    ("c", "structure", '{"messages":{"1":{"role":"tool","block":[0,8]}},"tools":[]}', NO_STRUCTURE),
    ("c", "structure", '{"messages":{"1":{"role":"tool","block":true}},"tools":[]}', NO_STRUCTURE),
    ("c", "structure", '{"messages":{"1":{"role":"tool","content":5}},"tools":[]}', NO_STRUCTURE),
    ("c", "structure", '{"messages":{"1":{"role":"","content":"x"}},"tools":[]}', NO_STRUCTURE),
    ("c", "structure", '{"messages":{"1":{"role":"assistant","tool_calls":5}},"tools":[]}', NO_STRUCTURE),
    ("c", "structure", "{}", "its structure is not that of a conversation"),
    ("c", "structure", "[" * 100_000, "its structure is not that of a conversation"),
    ("c", "structure", '{"messages":{"1":{}},"tools":[]}', "its structure is not that of a conversation"),
    ("c", "structure", '{"messages":{"x":{"role":"tool"}},"tools":[]}', "its structure is not that of a conversation"),
    ("a", "token_rows", [[0, 1], [3, 5]], "its token rows leave its tokens"),
    ("a", "token_rows", [[-1, 1]], "its token rows leave its tokens"),
    ("a", "token_rows", [[2, 2]], "its token rows leave its tokens"),
    ("b", "token_rows", [[0, 1]], "its token rows leave its tokens"),
    ("c", "token_rows", [[2, 4], [0, 2]], "its token rows overlap or are out of order"),
    ("c", "token_rows", [[0, 3], [2, 4]], "its token rows overlap or are out of order"),
    ("b", "kept_start", 1, "its kept rows do not follow those of the sample before it"),
    ("c", "kept_start", 3, "its kept rows do not follow those of the sample before it"),
    ("a", "token_ids", [0, 7, 8, 3], "a token of it is none of 8"),
    ("c", "token_ids", [1, -1, 3, 4], "a token of it is none of 8"),
    ("a", "token_offsets", [[0, 0], [0, 1], [1, 4], [3, 3]], "its token offsets leave its text"),
    ("a", "token_offsets", [[-1, 0], [0, 1], [1, 3], [3, 3]], "its token offsets leave its text"),
    ("a", "token_offsets", [[1, 0], [0, 1], [1, 3], [3, 3]], "its token offsets leave its text"),
    ("c", "token_offsets", [[0, 3], [3, 4], [2, 7], [0, 0]], "its token offsets run backwards"),
    ("c", "token_offsets", [[0, 3], [3, 7], [3, 4], [0, 0]], "its token offsets run backwards"),
    ("c", "token_offsets", [[3, 4], [0, 0], [0, 3], [7, 7]], "its token offsets run backwards"),
    ("a", "token_offsets", [[0, 0], [0, 1], [1, 3]], "its number of rows is not that of its token_offsets"),
    ("a", "token_ids", [0, 7, 7], "its number of rows is not that of its token_ids"),
    ("b", "token_ids", [1], "its number of rows is not that of its token_ids"),
    ("c", "row_start", 5, "its rows do not follow those of the sample before it"),
    ("a", "row_start", -1, "its rows do not follow those of the sample before it"),
    ("c", "row_count", -1, "it has a negative number of rows"),
    ("a", "words", [[0, 1], [1, 4]], "its words leave its text"),
    ("a", "words", [[-1, 1], [1, 3]], "its words leave its text"),
    ("c", "words", [[0, 3], [3, 3]], "its words leave its text"),
    ("b", "words", [[0, 1]], "its words leave its text"),
    ("c", "words", [[4, 7], [0, 3]], "its words are out of order"),
    ("a", "noun_phrases", [[2, 1]], "its noun phrases leave its text"),
    ("c", "noun_phrases", [[4, 7], [3, 7]], "its noun phrases are out of order"),
    ("c", "verb_phrases", [[0, 8]], "its verb phrases leave its text"),
    ("c", "verb_phrases", [[1, 7], [0, 7]], "its verb phrases are out of order"),
]


@pytest.mark.parametrize(("sample", "column", "value", "fault"), WRONG)
def test_the_sample_and_its_fault_are_named(tmp_path: Path, sample: str, column: str, value: Any, fault: str) -> None:
    rows = [row | {column: value} if row["sample_id"] == sample else row for row in sound()]
    assert said(shard(tmp_path, rows)) == f"samples.arrow: sample '{sample}': {fault}"


def test_the_first_of_several_is_named(tmp_path: Path) -> None:
    rows = [row | {"targets": [[-1, 0]]} for row in sound()]
    assert said(shard(tmp_path, rows)) == "samples.arrow: sample 'a': its targets leave its text"


def test_a_long_id_is_cut(tmp_path: Path) -> None:
    rows = [row | {"targets": [[-1, 0]], "sample_id": "x" * 100} for row in sound()]
    assert said(shard(tmp_path, rows)) == f"samples.arrow: sample '{'x' * 79}: its targets leave its text"


@pytest.mark.parametrize(("row", "value"), [(0, 4), (2, -1), (1, 1)])
def test_of_version_1_a_prompt_ends_within_its_text(tmp_path: Path, row: int, value: int) -> None:
    rows = of_version_1()
    rows[row]["prompt_end"] = value
    name = rows[row]["sample_id"]
    found = shard(tmp_path, rows, version=1)
    assert said(found) == f"samples.arrow: sample '{name}': its prompt ends outside its text"


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        ({"tokens": 9}, "shard.json says tokens 9, and it is 8"),
        ({"kept": 5}, "shard.json says kept 5, and it is 6"),
        ({"truncated": 0}, "shard.json says truncated 0, and it is 1"),
        ({"truncated": 2}, "shard.json says truncated 2, and it is 1"),
    ],
)
def test_counts_are_those_of_the_record(tmp_path: Path, recorded: dict[str, int], told: str) -> None:
    assert said(shard(tmp_path, sound(), **recorded)) == told


@pytest.mark.parametrize(("rows", "known"), [(7, 8), (9, 9)])
def test_tokens_may_be_those_of_the_input_embeddings(tmp_path: Path, rows: int, known: int) -> None:
    """Whichever of the two matrices has more rows."""
    embedding = EmbeddingRecord(dtype="float32", rows=rows, width=4)
    teacher = TEACHER.model_copy(update={"embedding": embedding})
    texts = sound()
    texts[0]["token_ids"] = [known - 1] * 4
    prove_samples(shard(tmp_path, texts), teacher)
    texts[0]["token_ids"] = [known] * 4
    assert said(shard(tmp_path, texts), teacher) == f"samples.arrow: sample 'a': a token of it is none of {known}"


def rebuilt(opened: Shard, name: str, change: Callable[[pa.Array], pa.Array]) -> Shard:
    """The shard with one column that Arrow's writer would have mended."""
    opened.columns[name] = change(opened.columns[name])
    return opened


def test_a_text_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    broken = pa.StringArray.from_buffers(
        3, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffb"), None, 0
    )
    told = said(rebuilt(shard(tmp_path, sound()), "text", lambda column: broken))
    assert told.startswith("samples.arrow: column text is damaged: ") and "UTF8" in told


@pytest.mark.parametrize("offsets", [[1, 4, 4, 8], [0, 4, 4, 7]])
def test_what_belongs_to_no_sample_is_named(tmp_path: Path, offsets: list[int]) -> None:
    """Values before the first list, or behind the last."""
    opened = shard(tmp_path, sound())
    assert opened.lists["token_ids"].offsets.tolist() == [0, 4, 4, 8]
    opened.lists["token_ids"].offsets = np.array(offsets, np.int32)
    assert said(opened) == "samples.arrow: column token_ids holds what belongs to no sample"
