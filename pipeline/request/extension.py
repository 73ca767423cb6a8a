"""A cache whose corpus has grown: what was planned before stays planned alike, and what is new is cut behind it."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.corpus.plan import Plan
from schemas.cache.manifest import CacheManifest
from schemas.cache.parts import PartRecord
from schemas.errors import CacheError, CorpusError
from schemas.storage.fingerprint import differences

GROWS = ("samples", "sha256")  # of the corpus


def list_ends(before: CacheManifest | None) -> list[int]:
    """How many samples the corpus had whenever it was planned, ascending; none of a new cache."""
    return [] if before is None else [*(part.samples for part in before.parts), before.corpus.samples]


def list_parts(before: CacheManifest | None, plan: Plan) -> list[PartRecord]:
    """The parts of a cache that is to hold `plan`: those of `before`, and it itself if the plan has more samples."""
    if before is None:
        return []
    if plan.samples <= before.corpus.samples:
        return list(before.parts)
    held = PartRecord(fingerprint=before.fingerprint, samples=before.corpus.samples, units=before.units)
    return [*before.parts, held]


def require_extension(before: CacheManifest, wanted: CacheManifest, plan: Plan, grows: bool) -> None:
    """`wanted` is `before` with samples behind its own, and only if it `grows`; or `before` itself.

    Raises CacheError naming the fields that differ; CorpusError: the corpus does not begin with the samples of
    `before`.
    """
    if lines := list(other_differences(before.identity, wanted.identity)):
        raise CacheError(
            "only samples can be added to a cache, and its config asks for more:\n  " + "\n  ".join(lines) + "\n"
            "name another output; caches of one teacher and the same arrays are read together"
        )
    samples = before.corpus.samples
    if plan.samples < samples:
        raise CorpusError(f"the corpus has {plan.samples:,} samples, fewer than the {samples:,} that the cache holds")
    if plan.samples == samples:
        if plan.corpus.sha256 != before.corpus.sha256:
            raise CorpusError(_changed(samples))
        return
    end = plan.ends[-1]
    if end.sha256 != before.corpus.sha256:
        raise CorpusError(_changed(samples))
    if not grows:
        raise CacheError(
            f"the corpus has grown from {samples:,} samples to {plan.samples:,}: `stillroom extend` adds them"
        )
    if end.units != before.units:
        raise CacheError(
            f"the samples of the cache make {end.units:,} units by the rules of today, and it has {before.units:,}: it "
            "cannot be extended; extract what is new to another output: such caches are read together"
        )


def may_extend(before: CacheManifest, wanted: CacheManifest) -> bool:
    """Whether `wanted` differs in nothing but more samples. Whether those of `before` come first is not asked."""
    is_longer = wanted.corpus.samples > before.corpus.samples
    return is_longer and not any(other_differences(before.identity, wanted.identity))


def _changed(samples: int) -> str:
    return (
        f"the corpus does not begin with the {samples:,} samples of the cache: some of them were changed, or what is "
        "new stands before them (files are read in the order of their names); extract what is new to another output: "
        "such caches are read together"
    )


def other_differences(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """What differs beside the corpus's content. The first text that spells out a special token may be a new one."""
    left, right = ({**identity, "parts": None} for identity in (before, wanted))
    for identity in (left, right):
        identity["corpus"] = {name: said for name, said in identity["corpus"].items() if name not in GROWS}
    if "spans" not in left:
        right.pop("spans", None)
    yield from differences(left, right)
