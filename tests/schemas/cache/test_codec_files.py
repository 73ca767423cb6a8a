"""Where the tables of an array lie."""

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec_files import codec_file


def test_tables_are_named_after_their_array() -> None:
    array = ArrayRecord(kind="hidden", layer=12, width=8, dtype="bfloat16", encoding="rvq")
    assert codec_file(array) == "hidden-12.safetensors"
