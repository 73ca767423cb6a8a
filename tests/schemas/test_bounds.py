"""Every number of a config has a lower and an upper bound, and no path is a URL."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from jobs.schema import SCHEMAS
from schemas.bounds import require_bounded
from schemas.configs.extraction import WorkersConfig
from schemas.configs.generation import GenerationConfig
from schemas.configs.training import TrainingConfig
from tests.schemas.least import TRAINING

CONFIGS = ("extract", "train", "generate")


def numbers(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number of a JSON schema, with the names of what it stands in."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield place, schema
        for name, part in schema.items():
            if name not in ("default", "description"):
                yield from numbers(part, f"{place}.{name}")
    elif isinstance(schema, list):
        for part in schema:
            yield from numbers(part, place)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_number_is_bounded(name: str) -> None:
    found = dict(numbers(SCHEMAS[name].model_json_schema()))
    assert len(found) > 3
    low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    assert [place for place, schema in found.items() if not (low & schema.keys() and high & schema.keys())] == []


@pytest.mark.parametrize("name", CONFIGS)
def test_no_number_is_as_near_to_zero_as_can_be(name: str) -> None:
    """A positive one is at least what does something: 5e-324 would be accepted, and a run that learnt nothing a
    success."""
    found = dict(numbers(SCHEMAS[name].model_json_schema()))
    assert [place for place, schema in found.items() if schema.get("exclusiveMinimum") == 0] == []


KD: dict[str, Any] = {"loss": "kd"}
SRA: dict[str, Any] = {"loss": "sra"}
DSKD: dict[str, Any] = {"loss": "dskd"}


@pytest.mark.parametrize(
    ("changes", "least"),
    [
        (lambda x: {"optimizer": {"lr": x}}, 1e-12),
        (lambda x: {"optimizer": {"clip": x}}, 1e-6),
        (lambda x: {"optimizer": {"eps": x}}, 1e-30),
        (lambda x: {"optimizer": {"sharpness": {"rho": x}}}, 1e-6),
        (lambda x: {"steps": None, "epochs": x}, 1e-6),
        (lambda x: {"objective": [{"loss": "ce", "weight": x}]}, 1e-9),
        (lambda x: {"objective": [SRA | {"geo": x}]}, 1e-9),
        (lambda x: {"objective": [SRA | {"temperature": x}]}, 1e-3),
        (lambda x: {"objective": [SRA | {"projection": {"lr": x}}]}, 1e-12),
        (lambda x: {"objective": [DSKD | {"projectors": {"lr": x}}]}, 1e-12),
        (lambda x: {"objective": [KD | {"divergence": "js", "beta": x}]}, 1e-6),
        (lambda x: {"objective": [KD | {"divergence": "adaptive_kl", "head": x}]}, 1e-6),
    ],
)
def test_what_amounts_to_zero_is_refused(changes: Callable[[float], dict[str, Any]], least: float) -> None:
    TrainingConfig.model_validate(TRAINING | changes(least))
    for less in (least * 0.9, 1e-320, 5e-324):
        with pytest.raises(
            ValidationError, match=rf"greater than or equal to|give 0, or {least:g} or more: less amounts"
        ):
            TrainingConfig.model_validate(TRAINING | changes(less))


def test_what_zero_switches_off_may_be_zero() -> None:
    objective = [{"loss": "ce"}, SRA | {"weight": 0, "span_kd": 0.0}]
    assert TrainingConfig.model_validate(TRAINING | {"objective": objective}).objective[1].weight == 0
    given = {"cache": "c", "model": "m", "output": "a.jsonl"}
    assert GenerationConfig.model_validate(given | {"temperature": 0}).temperature == 0
    with pytest.raises(ValidationError, match=r"give 0, or 0\.001 or more: less amounts to 0"):
        GenerationConfig.model_validate(given | {"temperature": 1e-320})
    for name in ("cpus", "gpus"):
        assert WorkersConfig.model_validate({name: 0}) == WorkersConfig.model_validate({name: 0.0})
        with pytest.raises(ValidationError, match=r"give 0, or 0\.001 or more: less amounts to 0"):
            WorkersConfig.model_validate({name: 1e-5})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 63}, "seed"),
        ({"seed": 10**5000}, "seed"),
        ({"threads": 10_000_000}, "threads"),
        ({"steps": None, "epochs": 1e300}, "epochs"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "betas"),
        ({"output": "s3://bucket/run"}, "is a URL, and a path of this machine is wanted"),
        ({"cache": "nobody://bucket/cache"}, "scheme that nobody here knows"),
        ({"cache": "s3://bucket/../cache"}, "is no name for a file"),
        ({"student": {"model": "nobody://org/name"}}, "scheme that nobody here knows"),
        ({"student": {**TRAINING["student"], "architecture": {"hidden_size": 1 << 40}}}, "below 2\\^31"),
        ({"student": {**TRAINING["student"], "architecture": {"num_hidden_layers": 10**8}}}, "up to 1,000 layers"),
        ({"student": {**TRAINING["student"], "architecture": {"a": [[[[[[[[[1]]]]]]]]]}}}, "nested too deeply"),
    ],
)
def test_what_is_beyond_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainingConfig.model_validate(TRAINING | changes)


def test_a_url_is_no_output_of_any_command() -> None:
    with pytest.raises(ValidationError, match="is a URL"):
        GenerationConfig.model_validate({"cache": "c", "model": "m", "output": "s3://bucket/a.jsonl"})


def classes(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of a config's fields, those of a registry as well."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from classes(field.rebuild_annotation())
    for part in (*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())):
        for choice in getattr(part, "choices", (part,)):
            yield from classes(choice)


PLACES = sorted(
    {
        (owner, name)
        for config in CONFIGS
        for owner in classes(SCHEMAS[config])
        for name, field in owner.model_fields.items()
        if "Path" in repr(field.rebuild_annotation()) or "function locate_model" in repr(field.rebuild_annotation())
    },
    key=str,
)


def test_every_place_is_known() -> None:
    assert {f"{owner.__name__}.{name}" for owner, name in PLACES} == {
        *("ExtractionConfig.output", "TeacherConfig.model", "TeacherConfig.adapter", "TeacherConfig.tokenizer"),
        *("TrainingConfig.cache", "TrainingConfig.student_cache", "TrainingConfig.output", "EvaluationConfig.texts"),
        *("EvaluationConfig.pairs", "StudentConfig.model", "StudentConfig.tokenizer", "GenerationConfig.cache"),
        *("GenerationConfig.output", "GenerationConfig.model", "TrainingConfig.tokens_folder"),
        *("TeacherCache.path",),
    }


@pytest.mark.parametrize(("owner", "name"), PLACES)
def test_every_place_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, owner: type[BaseModel], name: str) -> None:
    """A folder named ~ would invite its user to remove it, and a shell then removes the home folder."""
    monkeypatch.setenv("HOME", "/the/home")
    field: TypeAdapter[Any] = TypeAdapter(owner.model_fields[name].rebuild_annotation())
    for given, place in (
        ("~/x", "/the/home/x"),
        ("~", "/the/home"),
        ("./~/x", f"{Path.cwd()}/~/x"),
        ("a/~", "a/~"),
        ("a~", "a~"),
    ):
        found = field.validate_python(given)
        assert Path(found) == Path(place)
    assert type(found) is (str if "locate_model" in repr(field.core_schema) else type(Path()))
    with pytest.raises(ValidationError, match=r"'~nobody\.here/x': there is no such home; write \./~ for a folder of"):
        field.validate_python("~nobody.here/x")


def test_free_settings_are_plain_values() -> None:
    require_bounded({"a": [1, 2.5, True, None, "x"], "rope": {"factor": 8}}, "architecture")
    for value in (float("inf"), float("nan"), b"bytes", {1, 2}):
        with pytest.raises(ValueError, match=r"architecture\.a"):
            require_bounded({"a": value}, "architecture")
