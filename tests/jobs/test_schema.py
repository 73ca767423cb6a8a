"""`stillroom schema`: JSON schemas that a validator of its own accepts what we accept by."""

import json

import pytest

from jobs.schema import SCHEMAS, show_schema
from schemas.errors import ConfigError
from tests.shards import manifest


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_printed_as_json_and_describes_every_field(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_schema(name)
    schema = json.loads(capsys.readouterr().out)
    assert schema["title"] == SCHEMAS[name].__name__ and schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(SCHEMAS[name].model_fields)


def test_the_schema_of_a_cache_names_what_a_manifest_holds(capsys: pytest.CaptureFixture[str]) -> None:
    show_schema("cache")
    schema = json.loads(capsys.readouterr().out)
    written = json.loads(manifest(units=1).to_json())
    assert set(schema["required"]) <= written.keys() <= schema["properties"].keys()


def test_an_unknown_one_is_refused_with_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"^unknown schema 'runs'; available: extract, train, generate, cache, shard$"
    ):
        show_schema("runs")
    assert capsys.readouterr().out == ""
