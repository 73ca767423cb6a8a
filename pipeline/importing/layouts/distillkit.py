"""Datasets of DistillKit (arcee-ai/DistillKit at a61c2e7d, distillkit/sample_logits_vllm.py and sample_common.py).

`input_ids` are a text's tokens and, where it was short enough, one token of padding behind them; the other columns have
a row for each token after which vLLM's `prompt_logprobs` say what comes, from the first on: all but the last.
DistillKit itself cuts `input_ids` to the rows (pack_logits.py). Rows are either

`token_ids`, `top_values`                       int, float [k]: as they are (compression/compressor.py)
`bytepacked_indices`, `compressed_logprobs`     uint8: by compression_config.yaml beside them; see `compressed`

The older `packed_indices`, `exact_values`, `coeffs` are refused: they hold centred logits (compression/legacy.py),
which are not probabilities without all the others.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.importing.compressed import Compression, read_compression
from pipeline.importing.fields import integers, rows_of
from pipeline.importing.layout import Distributions, ForeignLayout, ForeignSample
from schemas.configs.importing import ImportConfig
from schemas.errors import CorpusError
from schemas.texts.files import find_files
from schemas.texts.records import read_records

PLAIN, PACKED = ("token_ids", "top_values"), ("bytepacked_indices", "compressed_logprobs")
LEGACY = "packed_indices"
OPTIONAL = ("labels", *PLAIN, *PACKED, LEGACY)
SLACK = {"plain": 1e-3, "packed": 0.05}
IGNORED = -100  # a label of what is not learnt


class DistillKit(ForeignLayout):
    """Top-k log-probabilities of whole texts."""

    name = "distillkit"
    gives = "top_k"

    def read(self, config: ImportConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Iterator[ForeignSample]:
        """See `ForeignLayout.read`."""
        fields = ["input_ids", *OPTIONAL]
        for file in find_files(config.files).files:
            compression = read_compression(file.parent)
            for line, record in read_records(file, fields, optional=OPTIONAL, nested=fields):
                place = f"{file}:{line}"
                yield _sample({name: value for name, value in record.items() if value is not None}, place, compression)


def _sample(record: Mapping[str, Any], place: str, compression: Compression | None) -> ForeignSample:
    ids_T, labels = integers(record, "input_ids", place), None
    numbers = _numbers(record, place, compression)
    if len(numbers.ids) > len(ids_T):
        raise CorpusError(f"{place}: {len(numbers.ids)} rows of {len(ids_T)} input_ids; each row is of one token")
    if "labels" in record:
        labels = integers(record, "labels", place)
        if len(labels) != len(ids_T):
            raise CorpusError(f"{place}: {len(labels)} labels of {len(ids_T)} input_ids")
    return ForeignSample(place, ids_T, None, None if labels is None else labels != IGNORED, numbers)


def _numbers(record: Mapping[str, Any], place: str, compression: Compression | None) -> Distributions:
    if all(name in record for name in PLAIN):
        ids, values = (rows_of(record, name, place, kind) for name, kind in zip(PLAIN, (int, float), strict=True))
        return Distributions(ids, values, SLACK["plain"])
    if all(name in record for name in PACKED):
        if compression is None:
            raise CorpusError(
                f"{place}: its rows are compressed, and there is no compression_config.yaml beside the file that says "
                "how; put the one that DistillKit wrote there"
            )
        ids, values = (rows_of(record, name, place, np.uint8) for name in PACKED)
        return Distributions(*compression.unpack(ids, values, place), SLACK["packed"])
    if LEGACY in record:
        raise CorpusError(
            f"{place}: {LEGACY} is DistillKit's older compression of logits, from which probabilities cannot be had; "
            "sample the teacher again (sample_logits_vllm)"
        )
    raise CorpusError(f"{place}: it has neither {' and '.join(PLAIN)} nor {' and '.join(PACKED)}")


LAYOUT = DistillKit()
