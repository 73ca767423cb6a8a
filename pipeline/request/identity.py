"""The identity of a cache: everything that changes a byte of its shards, and nothing else.

Paths, worker counts and library versions are left out: they do not change what is asked for. (Versions change how it is
rounded: pipeline.output.resume refuses to finish under others what was begun.)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pipeline.corpus.plan import Plan
from pipeline.teacher.batching import BatchRule
from schemas.cache.arrays import ArrayRecord, keeps_tokens
from schemas.cache.conversations import ConversationsRecord
from schemas.cache.manifest import FORMAT, VERSION, VERSION_OF_ADDED
from schemas.cache.parts import PartRecord
from schemas.cache.records import nest_records
from schemas.configs.extraction import CorpusConfig, ExtractionConfig
from schemas.strict import Strict


def make_identity(
    config: ExtractionConfig,
    *,
    teacher_hashes: Mapping[str, str | None],
    arrays: Sequence[ArrayRecord],
    records: Mapping[str, Strict],
    rows: str,
    annotator_version: str,
    plan: Plan,
    conversations: ConversationsRecord | None = None,
    parts: Sequence[PartRecord] = (),
    quantisation: str | None = None,
) -> dict[str, Any]:
    """The identity as nested JSON values, ready for `schemas.storage.fingerprint.fingerprint`.

    `teacher_hashes` is what `pipeline.request.folders.hash_teacher` gives, `records` says how states are made, by kind,
    `rows` which tokens have some, and `quantisation` how the teacher's weights are quantised, as its record has it.
    Layers stand as resolved indices, so that 'last' and 12 of 12 are one request.
    """
    teacher = config.teacher
    identity: dict[str, Any] = {
        "format": f"{FORMAT} {version_of(parts)}",
        "teacher": {
            **teacher_hashes,
            "kind": teacher.kind,
            "dtype": teacher.dtype,
            "device": config.device,  # they round differently
            "threads": teacher.threads,
            "max_tokens": teacher.max_tokens,
            "append_eos": teacher.append_eos,
        },
        "states": {a.path: {"width": a.width, "dtype": a.dtype, "encoding": a.encoding} for a in arrays},
        "corpus": {"sha256": plan.corpus.sha256, "samples": plan.corpus.samples, **_mapping(config.corpus)},
        "annotator": annotator_version,
        "batching": config.batching.model_dump(mode="json", exclude={"batch_cost"}),
    }
    # Later settings stand here only if they are asked for, so earlier fingerprints stay the same.
    if (cost := BatchRule.of(config).cost) is not None:
        identity["batching"]["batch_cost"] = cost
    identity |= nest_records(records)
    if rows != "all":
        identity["rows"] = rows
    if plan.spell_special and keeps_tokens(arrays):  # without such texts, the spans are as before
        identity["spans"] = "outside special tokens"
    if conversations is not None:
        identity["conversations"] = conversations.model_dump(mode="json")
    if quantisation is not None:
        identity["teacher"]["quantisation"] = quantisation
    if teacher.keep_embeddings:  # apart from the teacher: with or without, its states are the same
        identity["keep_embeddings"] = True
    if parts:
        identity["parts"] = [part.model_dump(mode="json") for part in parts]
    return identity


def version_of(parts: Sequence[PartRecord]) -> Literal[2, 3]:
    """The version of a cache.json with these parts."""
    return VERSION_OF_ADDED if any(part.arrays for part in parts) else VERSION


def _mapping(corpus: CorpusConfig) -> dict[str, Any]:
    """How a record becomes a text. The hash knows it too, but a refusal should name the field that differs."""
    return {name: getattr(corpus, name) for name in ("text", "prompt", "template", "response", "id", "overlong")}
