"""`stillroom schema`: JSON schemas that a validator of its own accepts what we accept by."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from jobs.cli import app
from jobs.presets import PRESETS
from jobs.schema import SCHEMAS, describe, show_schema
from schemas.errors import ConfigError
from tests.shards import manifest


def test_the_help_names_every_schema() -> None:
    (which,) = typer.main.get_command(app).commands["schema"].params[:1]  # type: ignore[attr-defined]
    assert which.metavar.split("|") == list(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_printed_as_json_and_describes_every_field(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_schema(name)
    schema = json.loads(capsys.readouterr().out)
    assert schema["title"] == SCHEMAS[name].__name__ and schema["additionalProperties"] is False
    assert set(schema["properties"]) - {"preset"} == set(SCHEMAS[name].model_fields)


def complaints(config: dict[str, Any]) -> list[str]:
    """What an editor underlines in a training config; jsonschema comes with Ray."""
    validator = importlib.import_module("jsonschema").Draft202012Validator(describe("train"))
    return [error.message for error in validator.iter_errors(config)]


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_a_config_over_a_preset_is_legal_to_an_editor(name: str) -> None:
    config = {"preset": name, "cache": "c", "output": "o", "student": {"model": "m"}, "optimizer": {"lr": 5e-5}}
    assert complaints(config) == []
    assert complaints(config | {"preset": "sra-papers"}) != []
    content = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert complaints({"cache": "c", "output": "o", "student": {"model": "m"}} | content) == []


@pytest.mark.parametrize("path", sorted(PRESETS.parent.glob("train-*.yaml")), ids=lambda path: path.stem)
def test_every_ready_made_training_config_is_legal_to_an_editor(path: Path) -> None:
    assert complaints(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def test_only_a_training_config_takes_a_preset() -> None:
    assert [name for name in SCHEMAS if "preset" in describe(name)["properties"]] == ["train"]


def test_the_schema_of_a_cache_names_what_a_manifest_holds(capsys: pytest.CaptureFixture[str]) -> None:
    show_schema("cache")
    schema = json.loads(capsys.readouterr().out)
    written = json.loads(manifest(units=1).to_json())
    assert set(schema["required"]) <= written.keys() <= schema["properties"].keys()


def test_an_unknown_one_is_refused_with_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^unknown schema 'runs'; available: extract, import, train, sweep, generate, conversation, cache, ",
    ):
        show_schema("runs")
    assert capsys.readouterr().out == ""
