"""How states were made: what each kind says of it, and where cache.json and the identity hold that."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from schemas.cache.arrays import KINDS
from schemas.strict import Strict


def record_fields() -> dict[str, Any]:
    """The fields of cache.json that hold what kinds say, in the kinds' order: one per kind, or one per group."""
    fields: dict[str, Any] = {}
    groups: dict[str, list[str]] = {}
    for name, kind in KINDS.items():
        if kind.record is not None and kind.group is None:
            fields[name] = (kind.record | None, None)
        elif kind.record is not None and kind.group is not None:
            names = groups.setdefault(kind.group, [])
            names.append(name)
            fields[kind.group] = (dict[Literal[tuple(names)], kind.record], {})  # type: ignore[misc]
    return fields


def read_records(manifest: Strict) -> dict[str, Any]:
    """Returns what those fields hold, by the name of the kind."""
    found: dict[str, Any] = {}
    for name, kind in KINDS.items():
        if kind.record is not None:
            record = getattr(manifest, name) if kind.group is None else getattr(manifest, kind.group).get(name)
            found |= {} if record is None else {name: record}
    return found


def records_of(manifest: Strict, kinds: Collection[str]) -> dict[str, Any]:
    """Those fields with what they hold of these `kinds` alone."""
    found: dict[str, Any] = {}
    for name, kind in KINDS.items():
        if kind.record is not None and kind.group is None:
            found[name] = getattr(manifest, name) if name in kinds else None
        elif kind.record is not None and kind.group is not None:
            found[kind.group] = {of: record for of, record in getattr(manifest, kind.group).items() if of in kinds}
    return found


def nest_records(records: Mapping[str, Strict]) -> dict[str, Any]:
    """Records by kind as JSON values where cache.json and the identity hold them: `pooled`, `sparse.top_k`."""
    nested: dict[str, Any] = {}
    for name, record in records.items():
        group = KINDS[name].group
        (nested if group is None else nested.setdefault(group, {}))[name] = record.model_dump(mode="json")
    return nested
