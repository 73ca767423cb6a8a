"""What users rely on, frozen: commands and their options, config fields with type and default, files of a cache.

Whatever is added, renamed or removed shows here and in the changelog. `python -m tests.test_public_surface` writes the
list anew.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer

from jobs.cli import app
from jobs.schema import SCHEMAS, describe
from schemas.cache.samples import INDEX_SCHEMA, SAMPLES_SCHEMA
from schemas.strict import Strict
from trainer.runs.checkpoint import CheckpointRecord
from trainer.runs.record import RunRecord

FROZEN = Path(__file__).parent / "golden" / "public_surface.json"


def commands() -> Iterator[str]:
    """`train CONFIG`, `train --set`: every argument and option of every command."""
    for name, command in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined]
        for parameter in command.params:
            if parameter.name != "help":
                named = parameter.opts[-1] if parameter.opts[0].startswith("-") else parameter.name.upper()
                yield f"{name} {named}" + ("" if parameter.required else " (optional)")


def fields(schema: dict[str, Any]) -> Iterator[str]:
    """`StudentConfig.max_tokens: integer = 1024`, for every object that a JSON schema describes."""
    objects = {schema["title"]: schema, **schema.get("$defs", {})}
    for title, described in sorted(objects.items()):
        for field, content in sorted(described.get("properties", {}).items()):
            default = f" = {json.dumps(content['default'], sort_keys=True)}" if "default" in content else ""
            yield f"{title}.{field}: {kind(content)}{default}"


def kind(content: dict[str, Any]) -> str:
    """The type of a field, bounds left out."""
    if "const" in content:
        return json.dumps(content["const"])
    if "enum" in content:
        return "|".join(map(str, content["enum"]))
    if "$ref" in content:
        return str(content["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in content:
            return " or ".join(sorted(map(kind, content[several])))
    if content.get("type") == "array" and "items" in content:
        return f"list of {kind(content['items'])}"
    return str(content.get("type", "any"))


def columns(schema: pa.Schema) -> list[str]:
    """`token_ids: list<item: int32>` for every column, in order."""
    return [f"{field.name}: {field.type}" for field in schema]


def surface() -> dict[str, list[str]]:
    """All of it, by what it is."""
    records: dict[str, type[Strict]] = {"run.json": RunRecord, "checkpoint.json": CheckpointRecord}
    described = {name: describe(name) for name in SCHEMAS}
    described |= {name: record.model_json_schema() for name, record in records.items()}
    return {
        "commands": list(commands()),
        **{f"schema {name}": list(fields(schema)) for name, schema in described.items()},
        "samples.arrow": columns(SAMPLES_SCHEMA),
        "index.parquet": columns(INDEX_SCHEMA),
    }


def test_what_users_rely_on_is_as_it_was() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    found = surface()
    assert found.keys() == frozen.keys()
    for part, lines in found.items():
        gone, new = [x for x in frozen[part] if x not in lines], [x for x in lines if x not in frozen[part]]
        assert (gone, new) == ([], []), f"{part}: write it anew and say so in the changelog"
        assert lines == frozen[part]


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(surface(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
