"""halved.json: which batches were halved, as text that stays the same."""

from pathlib import Path

from schemas.cache.halved import HalvedBatch, HalvedBatches, write_halved

TEXT = """{
 "format": "stillroom-halved-batches",
 "version": 1,
 "batches": [
  {
   "samples": 3,
   "tokens": 120
  },
  {
   "samples": 1,
   "tokens": 0
  }
 ]
}
"""


def test_the_file_is_written_as_it_is_documented(tmp_path: Path) -> None:
    batches = (HalvedBatch(samples=3, tokens=120), HalvedBatch(samples=1, tokens=0))
    write_halved(tmp_path, batches)
    assert (tmp_path / "halved.json").read_bytes() == TEXT.encode()
    assert HalvedBatches.model_validate_json(TEXT).batches == list(batches)
