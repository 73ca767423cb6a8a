"""An opened shard: columns as slices of a map, and one message for a file of another make."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from schemas.cache.open_shard import Shard
from schemas.cache.samples import SAMPLES_SCHEMA, SAMPLES_SCHEMAS, Turn
from schemas.cache.ways_out import redo
from schemas.cache.writer import write_shard
from schemas.errors import CacheError
from tests.shards import ARRAYS, PRINT, samples, states, write

REDO = "{redo}"
OTHER = "/samples.arrow is not of the format that this stillroom reads; use the one that wrote it, or extract again"


@pytest.fixture
def opened(tmp_path: Path) -> Shard:
    record = write(tmp_path, 0, (3, 0, 5))
    return Shard(tmp_path / "shards/00000", record)


def rewrite(shard: Path, change: Callable[[pa.Table], pa.Table], batches: int = 1) -> None:
    with pa.OSFile(str(shard / "samples.arrow")) as source:
        table = change(pa.ipc.open_file(source).read_all())
    with pa.OSFile(str(shard / "samples.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.combine_chunks().to_batches(max_chunksize=-(-len(table) // batches)):
            writer.write_batch(batch)


def test_a_sample_is_what_was_written(opened: Shard) -> None:
    sample = opened.sample(2)
    assert (sample.id, sample.text, sample.truncated, sample.turns) == ("u0-2", "é 漢🙂xxxxx", False, ())
    assert sample.targets.tolist() == [[2, 9]] and sample.targets.dtype == np.int32
    assert opened.sample(1).truncated is True and opened.sample(1).token_offsets.shape == (0, 2)
    assert sample.token_ids.tolist() == [2, 3, 4, 5, 6]
    assert sample.token_offsets.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert sample.words.tolist() == [[0, 1], [2, 4]]
    assert (sample.noun_phrases.tolist(), sample.verb_phrases.tolist()) == ([], [[0, 1]])


def test_rows_and_arrays(opened: Shard) -> None:
    assert [opened.rows(row) for row in range(3)] == [(0, 3), (3, 0), (3, 5)]
    assert {type(value) for value in opened.rows(2)} == {int}
    for array in ARRAYS:
        np.testing.assert_array_equal(opened.array(array), states(8)[array.path])
    assert opened.lists["token_ids"].counts.tolist() == [3, 0, 5]
    assert opened.lists["words"].counts.tolist() == [2, 2, 2]


def lacks_a_text(table: pa.Table) -> pa.Table:
    return table.set_column(1, SAMPLES_SCHEMA.field("text"), pa.array(["a", None, "c"]))


def lacks_a_number(table: pa.Table) -> pa.Table:
    """A null within a list."""
    field = SAMPLES_SCHEMA.field("token_ids")
    return table.set_column(
        table.column_names.index("token_ids"), field, pa.array([[1, None, 3], [], [1, 2, 3, 4, 5]], field.type)
    )


def lacks_a_pair(table: pa.Table) -> pa.Table:
    """A null within a pair within a list."""
    field = SAMPLES_SCHEMA.field("words")
    return table.set_column(table.column_names.index("words"), field, pa.array([[[0, None]], [], []], field.type))


def lacks_a_role(table: pa.Table) -> pa.Table:
    """A null within a structure within a list."""
    field = SAMPLES_SCHEMA.field("turns")
    turns = [[{"message": 0, "role": None, "part": "end", "start": 0, "end": 1}], [], []]
    return table.set_column(table.column_names.index("turns"), field, pa.array(turns, field.type))


def test_of_version_1_the_targets_are_what_its_prompts_leave(opened: Shard) -> None:
    def older(table: pa.Table) -> pa.Table:
        ends = pa.array([2, 0, 9], pa.int32())
        return table.append_column("prompt_end", ends).select(SAMPLES_SCHEMAS[1].names).cast(SAMPLES_SCHEMAS[1])

    rewrite(opened.path, older)
    shard = Shard(opened.path, opened.record)
    samples = [shard.sample(row) for row in range(3)]
    assert [sample.targets.tolist() for sample in samples] == [[[2, 7]], [[0, 4]], []]
    assert {(sample.targets.dtype, sample.turns) for sample in samples} == {(np.dtype(np.int32), ())}
    assert samples[2].words.tolist() == [[0, 1], [2, 4]] and samples[1].text == "é 漢🙂"


def test_turns_are_read_as_they_were_written(tmp_path: Path) -> None:
    turns = (
        Turn(0, "user", "content", 0, 2),
        Turn(1, "ассистент", "end", 2, 2),
        Turn(2, "tool", "content", 3, 9),
    )
    texts = [replace(sample, turns=given) for sample, given in zip(samples("a", [3, 5]), ((), turns), strict=True)]
    record = write_shard(tmp_path, 0, texts, states(8), ARRAYS, PRINT, 0)
    found = Shard(tmp_path / "shards/00000", record)
    assert [found.sample(row).turns for row in range(2)] == [(), turns]


@pytest.mark.parametrize(
    ("change", "batches", "said"),
    [
        (lambda table: table.slice(0, 2), 1, "/samples.arrow has 2 rows, shard.json says 3; " + REDO),
        (
            lambda table: table.replace_schema_metadata({}),
            1,
            OTHER,
        ),
        (
            lambda table: table.drop_columns("words"),
            1,
            OTHER,
        ),
        (lambda table: table, 2, f"/samples.arrow: column sample_id lacks a value, or is in pieces; {REDO}"),
        (lacks_a_text, 1, f"/samples.arrow: column text lacks a value, or is in pieces; {REDO}"),
        (lacks_a_number, 1, f"/samples.arrow: column token_ids lacks a value, or is in pieces; {REDO}"),
        (lacks_a_pair, 1, f"/samples.arrow: column words lacks a value, or is in pieces; {REDO}"),
        (lacks_a_role, 1, f"/samples.arrow: column turns lacks a value, or is in pieces; {REDO}"),
    ],
)
def test_a_file_of_another_make_is_named(
    opened: Shard, change: Callable[[pa.Table], pa.Table], batches: int, said: str
) -> None:
    rewrite(opened.path, change, batches)
    with pytest.raises(CacheError) as refused:
        Shard(opened.path, opened.record)
    assert str(refused.value) == f"{opened.path}{said.format(redo=redo(opened.path))}"


def test_a_file_that_is_not_of_arrow_is_named(opened: Shard) -> None:
    path = opened.path / "samples.arrow"
    path.unlink()
    for content in (None, b"no Arrow at all"):
        if content:
            path.write_bytes(content)
        with pytest.raises(CacheError) as refused:
            Shard(opened.path, opened.record)
        assert str(refused.value).startswith(f"cannot read {path}: ") and ": None;" not in str(refused.value)
        assert str(refused.value).endswith(f"; {redo(opened.path)}")
