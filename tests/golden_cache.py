"""Golden caches of the format that is written today, and what they read as.

`python -m tests.golden_cache` makes them, in tests/golden. Once a version of stillroom that writes this format is
released, they stay as they are: a reader that cannot read them breaks every cache there is.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from schemas.cache.arrays import by_kind
from schemas.cache.kinds.next_token import NextToken
from schemas.cache.reader import Cache
from schemas.cache.token_rows import row_positions
from schemas.models.state_decoder import load_decoders
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.batch import Batch
from trainer.data.decoding import decoding
from trainer.data.loader import BatchBuilder
from trainer.data.request import BatchRequest
from trainer.data.teacher_states import PooledTeacher, SparseTeacher, TeacherHidden, TeacherMass

GOLDEN = Path(__file__).parent / "golden"
# One holds whatever a cache can hold, of targets alone; the other codes of one byte per number, of every token.
STATES: dict[str, dict[str, Any]] = {
    "cache-2": {
        "hidden": [0, 1],
        "mass": [1],
        "pooled": {"pooling": "last"},
        "top_k": {"k": 4},
        "sampled": {"draws": 6, "proposal": 0.8},
        "encoding": "small",
        "rows": "targets",
        "dtype": "bfloat16",
    },
    "cache-2-int8": {"hidden": [1], "mass": [], "encoding": {"codec": "int8"}, "dtype": "bfloat16"},
}


def make(name: str, folder: Path) -> Path:
    """A cache of four texts by a random Llama of one layer, 8 wide: `folder`/`name`."""
    with tempfile.TemporaryDirectory() as place:
        teacher = Path(place) / "golden-teacher"
        tiny_llama(teacher, tiny_tokenizer(teacher, "bpe", 300), hidden=8, layers=1, heads=2)
        corpus = write_corpus(Path(place) / "corpus.jsonl", [TEXTS[0], TEXTS[7], TEXTS[-5], TEXTS[-4]])
        batching = {"unit_tokens": 60, "batch_tokens": 64, "batch_cost": "fill"}
        return build_cache(extraction(folder / name, teacher, corpus, states=STATES[name], batching=batching))


def read(path: Path) -> dict[str, Any]:
    """What a training finds in the cache, as JSON: of states, the last row of each sample, to six digits."""
    cache = Cache(path)
    tokenizer = StudentTokenizer(load_teacher_tokenizer(path, cache.manifest), 96, append_eos=False)
    builder = BatchBuilder(cache, tokenizer, _requests(cache))
    decoders = load_decoders(path, cache.manifest)
    found = []
    for position in range(len(cache)):
        sample = cache.sample(position)
        places = row_positions(sample.token_rows)
        found.append(
            {
                "id": sample.id,
                "text": sample.text,
                "targets": sample.targets.tolist(),
                "turns": [vars(turn) for turn in sample.turns],
                "token_ids": sample.token_ids.tolist(),
                "token_offsets": sample.token_offsets.tolist(),
                "token_rows": sample.token_rows.tolist(),
                "words": sample.words.tolist(),
                "noun_phrases": sample.noun_phrases.tolist(),
                "states": _last_rows(decoding(builder[[position]], decoders), int(places[-1])),
            }
        )
    return {"fingerprint": cache.manifest.fingerprint, "samples": found}


def _requests(cache: Cache) -> list[BatchRequest[Any]]:
    requests: list[BatchRequest[Any]] = []
    for name, arrays in by_kind(cache.manifest.arrays).items():
        if name in ("hidden", "mass"):
            requests += [(TeacherHidden if name == "hidden" else TeacherMass)(array.layer) for array in arrays]
        else:
            requests.append(SparseTeacher(name) if isinstance(arrays[0].state_kind, NextToken) else PooledTeacher())
    return requests


def _last_rows(batch: Batch, place: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for request in batch.answers:
        answer: Any = batch[request]
        if isinstance(request, SparseTeacher):
            rows[f"{request.kind}, ids"] = answer.ids_BTn[0, place].tolist()
            rows[f"{request.kind}, values"] = _rounded(answer.values_BTn[0, place])
        else:
            rows[str(request)] = _rounded(answer[0] if isinstance(request, PooledTeacher) else answer[0, place])
    return rows


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.flatten().tolist()]


if __name__ == "__main__":
    for name in STATES:
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
        text = json.dumps(read(make(name, GOLDEN)), indent=1, ensure_ascii=False)
        (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
