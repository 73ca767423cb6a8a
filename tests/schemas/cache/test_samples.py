"""The columns of samples.arrow, of every version that is read."""

import pyarrow as pa

from schemas.cache.samples import SAMPLES_SCHEMA, SAMPLES_SCHEMAS, VERSION_KEY

OFFSETS = "list<item: fixed_size_list<item: int32>[2]>"


def columns(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def test_version_1_is_as_it_was_released() -> None:
    assert columns(SAMPLES_SCHEMAS[1]) == {
        "sample_id": "string",
        "text": "string",
        "prompt_end": "int32",
        "truncated": "bool",
        "token_ids": "list<item: int32>",
        "token_offsets": OFFSETS,
        "words": OFFSETS,
        "noun_phrases": OFFSETS,
        "verb_phrases": OFFSETS,
        "row_start": "int64",
        "row_count": "int32",
    }


def test_version_2_has_ranges_for_the_prompt_s_end_and_says_which_tokens_have_rows() -> None:
    old, new = columns(SAMPLES_SCHEMAS[1]), columns(SAMPLES_SCHEMA)
    added = {
        "targets": OFFSETS,
        "turns": "list<item: struct<message: int32, role: string, part: string, start: int32, end: int32>>",
        "structure": "string",
        "token_rows": OFFSETS,
        "kept_start": "int64",
    }
    assert {name: kind for name, kind in new.items() if name not in old} == added
    assert old.keys() - new.keys() == {"prompt_end"}


def test_each_says_its_version_and_lacks_nothing() -> None:
    assert {version: schema.metadata for version, schema in SAMPLES_SCHEMAS.items()} == {
        1: {VERSION_KEY: b"1"},
        2: {VERSION_KEY: b"2"},
    }
    assert SAMPLES_SCHEMA is SAMPLES_SCHEMAS[2]
    assert not any(field.nullable for schema in SAMPLES_SCHEMAS.values() for field in schema)
