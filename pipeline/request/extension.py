"""A cache that has grown: what was planned before stays planned alike, and what is new is cut behind it, or beside."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.corpus.plan import Plan
from schemas.cache.arrays import ArrayRecord, by_kind, keeps_tokens
from schemas.cache.manifest import FORMAT, VERSION, VERSION_OF_ADDED, CacheManifest
from schemas.cache.parts import PartRecord
from schemas.cache.records import nest_records, record_fields
from schemas.errors import CacheError, CorpusError
from schemas.storage.fingerprint import differences

GROWS = ("samples", "sha256")  # of the corpus
ELSEWHERE = "extract to another output; caches of one teacher and the same arrays are read together"


def list_ends(before: CacheManifest | None) -> list[int]:
    """How many samples the corpus had whenever it was planned, ascending; none of a new cache."""
    if before is None:
        return []
    return list(dict.fromkeys([*(part.samples for part in before.parts), before.corpus.samples]))


def list_parts(before: CacheManifest | None, plan: Plan, arrays: Sequence[ArrayRecord]) -> list[PartRecord]:
    """The parts of a cache that is to hold `arrays` of `plan`: those of `before`, and it itself if that is less.

    Raises CacheError or CorpusError if it is more.
    """
    if before is None:
        return []
    held, wanted = [array.path for array in before.arrays], {array.path for array in arrays}
    if lost := [path for path in held if path not in wanted]:
        raise CacheError(
            f"the cache holds {', '.join(lost)}, and its config does not ask for it: nothing is removed from a cache. "
            "Ask in `states` for all that it holds, and for what is to be added"
        )
    samples = before.corpus.samples
    if plan.samples < samples:
        raise CorpusError(f"the corpus has {plan.samples:,} samples, fewer than the {samples:,} that the cache holds")
    if plan.samples == samples and len(held) == len(wanted):
        return list(before.parts)
    last = PartRecord(fingerprint=before.fingerprint, samples=samples, units=before.units)
    had = [part.model_copy(update={"arrays": part.arrays or held}) for part in (*before.parts, last)]
    return [part.model_copy(update={"arrays": None}) if set(part.arrays or ()) == wanted else part for part in had]


def require_extension(before: CacheManifest, wanted: CacheManifest, plan: Plan, grows: bool) -> None:
    """`wanted` is `before` with more samples behind its own, or more arrays, or both, and only if it `grows`; or
    `before` itself.

    Raises CacheError naming the fields that differ; CorpusError: the corpus does not begin with the samples of
    `before`.
    """
    if keeps_tokens(wanted.arrays) and not keeps_tokens(before.arrays):
        raise CacheError(
            "the cache keeps sentence embeddings alone, without the tokens that other states are of; " + ELSEWHERE
        )
    if lines := list(other_differences(before, wanted)):
        raise CacheError(
            "only samples, layers and kinds of states can be added to a cache, and its config asks for more:\n  "
            + "\n  ".join(lines)
            + "\nname another output; caches of one teacher and the same arrays are read together"
        )
    samples, longer = before.corpus.samples, plan.samples > before.corpus.samples
    planned = plan.ends[-1] if longer else None
    if (plan.corpus.sha256 if planned is None else planned.sha256) != before.corpus.sha256:
        raise CorpusError(_changed(samples))
    added = added_arrays(before, wanted)
    if not grows and longer:
        raise CacheError(
            f"the corpus has grown from {samples:,} samples to {plan.samples:,}: `stillroom extend` adds them"
        )
    if not grows and added:
        raise CacheError(f"the cache does not hold {', '.join(added)}: `stillroom extend` adds it")
    units = len(plan.units) if planned is None else planned.units
    if units != before.units:
        raise CacheError(
            f"the samples of the cache make {units:,} units by the rules of today, and it has {before.units:,}: it "
            "cannot be extended; extract what is new to another output: such caches are read together"
        )


def may_extend(before: CacheManifest, wanted: CacheManifest) -> bool:
    """Whether `wanted` differs in nothing but more samples or arrays. Whether the samples of `before` come first is not
    asked."""
    if not {array.path for array in before.arrays} <= {array.path for array in wanted.arrays}:
        return False
    more = wanted.corpus.samples > before.corpus.samples
    if wanted.corpus.samples < before.corpus.samples or not (more or added_arrays(before, wanted)):
        return False
    return not any(other_differences(before, wanted))


def added_arrays(before: CacheManifest, wanted: CacheManifest) -> list[str]:
    """The paths of the arrays that `before` lacks."""
    held = {array.path for array in before.arrays}
    return [array.path for array in wanted.arrays if array.path not in held]


def _changed(samples: int) -> str:
    return (
        f"the corpus does not begin with the {samples:,} samples of the cache: some of them were changed, or what is "
        "new stands before them (files are read in the order of their names); extract what is new to another output: "
        "such caches are read together"
    )


def other_differences(before: CacheManifest, wanted: CacheManifest) -> Iterator[str]:
    """What differs beside the corpus's content and arrays that are added. The first text that spells out a special
    token may be a new one."""
    left, right = ({**manifest.identity, "parts": None} for manifest in (before, wanted))
    for identity in (left, right):
        identity["corpus"] = {name: said for name, said in identity["corpus"].items() if name not in GROWS}
    if "spans" not in left:
        right.pop("spans", None)
    if left["format"] in (f"{FORMAT} {VERSION}", f"{FORMAT} {VERSION_OF_ADDED}"):
        right["format"] = left["format"]
    right["states"] = {path: said for path, said in right["states"].items() if path in left["states"]}
    yield from differences(left, {**right, **_records_as_of(before, wanted)})


def _records_as_of(before: CacheManifest, wanted: CacheManifest) -> dict[str, Any]:
    """How states of the kinds that `before` holds are made in `wanted`; null where none of them says so."""
    kinds = by_kind(before.arrays)
    held = nest_records({name: record for name, record in wanted.records.items() if name in kinds})
    return {name: held.get(name) for name in record_fields()}
