"""What makes two caches one: all that changes a byte, and nothing else."""

import json
from typing import Any

import pytest

from pipeline.corpus.plan import Plan
from pipeline.request.identity import make_identity
from schemas.cache.arrays import ArrayRecord
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.manifest import CorpusRecord
from schemas.configs.extraction import ExtractionConfig
from schemas.storage.fingerprint import differences, fingerprint
from schemas.strict import Strict


def identity(
    hidden: int = 5,
    rows: str = "all",
    records: dict[str, Strict] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "output": "/o",
        "corpus": {"files": ["c.jsonl"], "text": "t"},
        "teacher": {"model": "m"},
    }
    for name, section in changes.items():
        sections[name] = {**sections.get(name, {}), **section} if isinstance(section, dict) else section
    return make_identity(
        ExtractionConfig.model_validate(sections),
        teacher_hashes={"weights": "w", "config": "c", "tokenizer": "t", "adapter": None},
        arrays=[ArrayRecord(kind="hidden", layer=hidden, width=4, dtype="bfloat16")],
        records=records or {},
        rows=rows,
        annotator_version="english 1",
        plan=Plan((), CorpusRecord(samples=1, empty=0, sha256="s")),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"output": "/elsewhere"},
        {"corpus": {"files": ["d.jsonl"], "limit": 9, "empty": "error"}},
        {"teacher": {"model": "/copy/of/m", "device": "cuda"}},
        {"teacher": {"device": "cpu"}, "workers": {"gpus": 1}},
        {"workers": {"count": 4, "cpus": 2, "retries": 0}},
        {"teacher": {"placement": "spread", "max_memory": {"cpu": "2GB"}}},
    ],
)
def test_where_it_runs_is_no_part_of_the_identity(changes: dict[str, Any]) -> None:
    assert fingerprint(identity(**changes)) == fingerprint(identity())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"hidden": 4}, "states: hidden/4 is wanted and not found"),
        ({"teacher": {"max_tokens": 64}}, "teacher.max_tokens: found 1024, wanted 64"),
        ({"teacher": {"append_eos": True}}, "teacher.append_eos: found false, wanted true"),
        ({"workers": {"gpus": 0.5}}, 'teacher.device: found "cpu", wanted "cuda"'),
        ({"teacher": {"threads": 2}}, "teacher.threads: found 1, wanted 2"),
        ({"corpus": {"overlong": "skip"}}, 'corpus.overlong: found "truncate", wanted "skip"'),
        ({"batching": {"unit_tokens": 9}}, "batching.unit_tokens: found 65536, wanted 9"),
        ({"batching": {"batch_cost": 9}}, "batching.batch_cost: found 64, wanted 9"),
        ({"batching": {"batch_cost": "fill"}}, "batching.batch_cost: found 64, wanted null"),
        ({"rows": "targets"}, 'rows: found null, wanted "targets"'),
        ({"teacher": {"keep_embeddings": True}}, "keep_embeddings: found null, wanted true"),
        (
            {"records": {"pooled": PooledRecord(pooling="mean", normalise=True, layer=5)}},
            'pooled: found null, wanted {"layer":5,"normalise":true,"pooling":"mean"}',
        ),
        (
            {"records": {"sampled": SparseRecord(temperature=1.0, entries=9, proposal=0.5, seed=3)}},
            'sparse: found null, wanted {"sampled":{"entries":9,"pro…"seed":3,"temperature":1.0}}',
        ),
    ],
)
def test_what_changes_a_byte_changes_the_identity(changes: dict[str, Any], line: str) -> None:
    assert line in list(differences(identity(), identity(**changes)))
    json.dumps(identity(**changes))
