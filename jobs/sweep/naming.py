"""Readable names of runs, made of what differs: `lr=0.001,sra.cos=2-seed1`."""

import re
from collections.abc import Collection
from typing import Any

from schemas.errors import ConfigError
from schemas.shown import quoted

LONGEST = 120  # characters of a folder's name
FOLDER = r"^[\w+=,-][\w.+=,-]*$"  # a folder's name: nothing that leads out of the folder that holds all runs
_UNSAFE = re.compile(r"[^\w.+=,-]+")


def short_fields(fields: Collection[str]) -> dict[str, str]:
    """Each dotted field without what it needs not to be told from the others; one of a loss begins with the loss."""
    return {field: _shortest(field, fields) for field in fields}


def _shortest(field: str, fields: Collection[str]) -> str:
    parts = field.split(".")
    least = 2 if parts[0] == "objective" and len(parts) > 1 else 1
    for count in range(least, len(parts)):
        short = ".".join(parts[-count:])
        if not any(other != field and f".{other}".endswith(f".{short}") for other in fields):
            return short
    return field


def name_value(field: str, value: Any) -> str:
    """A value as a name has it. Raises ConfigError for a list or mapping, which nobody could tell from another."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (list, dict)):
        raise ConfigError(
            f"{field}: {quoted(value)} does not make a name; name the values, as {field}: {{one: …, other: …}}, or the "
            "runs"
        )
    text = str(value)
    try:
        return text if isinstance(value, int) else f"{float(text):.12g}"  # YAML takes 1e-3 for text
    except ValueError:
        return text.rstrip("/").rpartition("/")[2]


def folder_name(parts: Collection[str], seed: int) -> str:
    """The name of a run's folder. Its end is what `stillroom compare` takes for the seed. Raises ConfigError if it is
    too long."""
    variant = _UNSAFE.sub("_", ",".join(parts)).strip(".") or "base"
    name = f"{variant}-seed{seed}"
    if len(name) > LONGEST:
        raise ConfigError(f"{quoted(name)} is too long for a folder's name; name the values or the runs")
    return name
