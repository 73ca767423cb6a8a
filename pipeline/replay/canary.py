"""Before a worker writes its first shard: what it is about to store of two samples is what its teacher gives for each
alone, through packing and encoding. Costs their forward passes, and those of their batches if it chooses experts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.corpus.sample import AnnotatedSample
from pipeline.replay.compare import Comparison
from pipeline.teacher.batching import BatchRule, batches
from pipeline.teacher.check import TIES
from schemas.cache.arrays import ArrayRecord
from schemas.cache.row_units import count_rows_by_unit
from schemas.cache.states import Values
from schemas.cache.token_rows import count_rows
from schemas.errors import ModelError


def prove_stored(
    comparison: Comparison,
    arrays: Sequence[ArrayRecord],
    samples: Sequence[AnnotatedSample],
    stored: Mapping[str, Values],
    rule: BatchRule,
) -> bool:
    """Compare the longest and the shortest of a unit's `samples`, which ran in batches by `rule`, with its
    `stored` arrays, by path. A few rows may be further off: errors have a tail.

    Returns whether there was a sample. Raises ModelError naming sample and array.
    """
    lengths = {number: len(sample.token_ids) for number, sample in enumerate(samples) if len(sample.token_ids)}
    chosen = {max(lengths, key=lengths.__getitem__), min(lengths, key=lengths.__getitem__)} if lengths else set[int]()
    all_lengths = [len(sample.token_ids) for sample in samples]
    kept = [count_rows(sample.token_rows) for sample in samples]
    counts, together = count_rows_by_unit(all_lengths, kept, comparison.causal), batches(all_lengths, rule)
    for number in sorted(chosen):
        batch = next(batch for batch in together if number in batch)
        rows = {array.path: _rows_of(number, counts[array.unit], stored[array.path]) for array in arrays}
        compared = comparison.compare_alone([samples[i] for i in batch], batch.index(number), rows)
        for path, gap in compared.gaps.items():
            if gap.is_wide and (usual := gap.without(TIES)).is_wide:
                raise ModelError(
                    f"sample {samples[number].id!r}: {path}, as it would be stored, is off by {usual.found:.1e} from "
                    f"what the teacher gives for the sample alone (allowed: {usual.allowed:.0e}): it depends on the "
                    "other texts of a batch, or is packed or encoded wrongly, so it cannot be cached"
                )
    return bool(chosen)


def _rows_of(number: int, counts: np.ndarray, values: Any) -> Any:
    first = int(counts[:number].sum())
    return values[first : first + int(counts[number])]
