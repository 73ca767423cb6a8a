"""Numbers and names of configs, each with bounds: far beyond any use, well within what a machine can count.

Beyond these bounds a library's integers overflow, a system refuses the threads, and no file can have the name.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from schemas.shown import quoted
from schemas.storage.remote import copy_path, is_remote, locate_anywhere, named
from schemas.storage.storage import locate

MOST_LAYERS = 1_000
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Threads = Annotated[int, Field(ge=1, le=1_024)]
Devices = Annotated[int, Field(ge=1, le=1_024)]
Workers = Annotated[int, Field(ge=0, le=256)]
Samples = Annotated[int, Field(ge=1, le=1 << 40)]
BatchSize = Annotated[int, Field(ge=1, le=1 << 20)]
Tokens = Annotated[int, Field(ge=1, le=1 << 30)]
MaxTokens = Annotated[int, Field(ge=2, le=1 << 24)]
Steps = Annotated[int, Field(ge=1, le=1_000_000_000)]
Epochs = Annotated[float, Field(ge=1e-6, le=1_000_000)]
Entries = Annotated[int, Field(ge=1, le=1_000_000)]  # per token, of a vocabulary
Temperature = Annotated[float, Field(ge=1e-3, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
PartialShare = Annotated[float, Field(ge=1e-6, le=1 - 1e-6)]  # neither nothing nor all
LearningRate = Annotated[float, Field(ge=1e-12, le=100)]  # less moves no weight in float32
Factor = Annotated[float, Field(ge=0, le=1e6)]
Norm = Annotated[float, Field(ge=1e-6, le=1e6)]  # of a gradient: AdamW's eps takes smaller ones for 0
Name = Annotated[str, Field(min_length=1, max_length=4_096)]  # of a model, a field, a folder
FieldName = Annotated[str, Field(max_length=4_096)]  # the name of a CSV column may be empty
Place = Annotated[str, Field(pattern=r"^(cpu|0|[1-9][0-9]{0,2})$")]  # or a GPU, of those that a process sees
Memory = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?([KMG]B|[KMG]iB)$", max_length=32)]
Template = Annotated[str, Field(min_length=1, max_length=100_000)]


def _place(value: Any) -> Any:
    return str(locate(value)) if isinstance(value, (str, Path)) else value  # JSON has no paths


def _anywhere(value: Any) -> Any:
    return str(locate_anywhere(value)) if isinstance(value, (str, Path)) else value


def locate_model(value: Any) -> Any:
    """The name of a model: its folder, as `locate` has it, a URL, or a hub id. Raises ValueError as these do."""
    if not isinstance(value, str) or not any(mark in value for mark in ("://", "~")):  # no hub id has them
        return value
    if is_remote(value):
        copy_path(value)
        return value
    return str(locate(value))


def zero_or(least: float) -> AfterValidator:
    """Of a number that 0 switches off: it may be 0, or `least` and more, because less would amount to 0 in silence."""

    def check(value: float) -> float:
        if 0 < value < least:
            raise ValueError(f"give 0, or {least:g} or more: less amounts to 0")
        return value

    return AfterValidator(check)


def require_bounded(value: Any, place: str, levels: int = 8) -> None:
    """Raises ValueError unless free-form settings are plain values: finite, below 2^31, not nested above 8 levels."""
    if levels == 0:
        raise ValueError(f"{place} is nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            if "layer" in str(key) and isinstance(item, int) and item > MOST_LAYERS:  # each takes time to build
                raise ValueError(f"{place}.{key} is {quoted(item)}; a model has up to {MOST_LAYERS:,} layers")
            require_bounded(item, f"{place}.{key}", levels - 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            require_bounded(item, f"{place}.{number}", levels - 1)
    elif isinstance(value, (int, float)) and not abs(value) < 1 << 31:
        raise ValueError(f"{place} is {quoted(value)}; a number of a model is below 2^31")
    elif not isinstance(value, (str, int, float, bool, None.__class__)):
        raise ValueError(f"{place} is a {type(value).__name__}; give text, a number, a list or a mapping")


LocalPath = Annotated[Path, BeforeValidator(_place)]
# Of what lies under a URL, the path of its copy on this machine. As JSON, which other machines may read, it is the URL.
AnyPath = Annotated[
    Path, BeforeValidator(_anywhere), PlainSerializer(lambda path: named(str(path)), return_type=str, when_used="json")
]
ModelName = Annotated[Name, BeforeValidator(locate_model)]
