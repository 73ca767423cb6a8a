"""The folder that a job is started in: stillroom itself, the config, and the files that it names by relative paths.

An absolute path is one of the cluster's, a URL is everybody's: they are left as they are. A relative path would mean
the job's folder, a copy that Ray deletes. So a file is sent along; a folder, and whatever is written, must be named by
an absolute path.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.filesize import decimal

from jobs.presets import PRESETS
from jobs.sweep.plan import plan_sweep
from pipeline.cluster.code import FLOORS, PROJECT
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config, read_source
from schemas.errors import ConfigError
from schemas.storage.regular import require_regular
from schemas.storage.remote import locate_anywhere
from schemas.strict import Strict
from schemas.texts.files import find_files

Command = Literal["extract", "train", "sweep"]
CONFIG = "config.yaml"
FILES = "files"
MOST_BYTES = 50 * 10**6  # of all files that are sent along: Ray keeps them in the memory of the head

PLACES = ("output", "cache", "student_cache")  # of what the cluster's machines share
MODELS = ("teacher.model", "teacher.adapter", "teacher.tokenizer", "student.model", "student.tokenizer")
SENT = ("corpus.files", "evaluation.texts", "evaluation.pairs", "teacher.chat_template", "student.chat_template")

Settings = dict[str, Any]


def pack(command: Command, path: Path, overrides: Sequence[str], folder: Path) -> Settings:
    """Fill `folder` with what `command` needs to run there as `stillroom COMMAND config.yaml`; returns that config.

    Raises ConfigError: whatever is wrong with the config, a relative path to a folder or an output, or files that are
    too large. CorpusError: no such file.
    """
    settings = {"extract": _extraction, "train": _training, "sweep": _sweep}[command](path, overrides, folder)
    for floor in FLOORS:
        shutil.copytree(PROJECT / floor, folder / floor, ignore=_all_but_code)
    (folder / CONFIG).write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return settings


def _extraction(path: Path, overrides: Sequence[str], folder: Path) -> Settings:
    return _sent(_said(load_config(path, ExtractionConfig, overrides)), folder)


def _training(path: Path, overrides: Sequence[str], folder: Path) -> Settings:
    return _sent(_said(load_config(path, TrainingConfig, overrides, PRESETS)), folder)


def _sweep(path: Path, overrides: Sequence[str], folder: Path) -> Settings:
    """With its base in place. The values of its runs may name files anywhere, so none is sent along."""
    sweep = plan_sweep(path, overrides)
    for run in sweep.runs:
        settings = _said(run.config) | {"output": str(sweep.config.output)}
        _require_absolute(settings)
        for field, value in _each(settings, SENT):
            if _is_here(value):
                raise ConfigError(f"{field}: {value} is relative, and a sweep sends no files along; {_WAY_OUT}")
    settings = _said(sweep.config)
    return settings | ({"base": read_source(sweep.config.base).data} if isinstance(sweep.config.base, Path) else {})


def _said(config: Strict) -> Settings:
    """What the config says, defaults left out: some mean something else to a run that began before there were any."""
    return config.model_dump(mode="json", exclude_unset=True)


_WAY_OUT = "give an absolute path on storage that all machines share"


def _require_absolute(settings: Settings) -> None:
    for field, value in _each(settings, PLACES):
        if not locate_anywhere(value).is_absolute():
            raise ConfigError(f"{field}: {value} is relative, and Ray deletes the folder of a job; {_WAY_OUT}")
    for field, value in _each(settings, MODELS):
        if _is_here(value):
            raise ConfigError(f"{field}: {value} is a folder of this machine, which is not sent along; {_WAY_OUT}")


def _is_here(value: str) -> bool:
    """Whether it is a relative path that this machine knows; the name of a hub's model may look like one."""
    return not locate_anywhere(value).is_absolute() and locate_anywhere(value).exists()


def _sent(settings: Settings, folder: Path) -> Settings:
    """`settings` with the files that they name by relative paths in `folder`, and named there."""
    _require_absolute(settings)
    files: dict[Path, str] = {}
    for field in SENT:
        holder, name = _holder(settings, field)
        values = list[str]()
        for _, value in _each(settings, [field]):
            found = _local_files(field, value)
            values += [files.setdefault(path, f"{FILES}/{len(files)}/{path.name}") for path in found] or [value]
        if values:
            holder[name] = values if isinstance(holder[name], list) else values[0]
    _require_small(files)
    for path, name in files.items():
        (folder / name).parent.mkdir(parents=True)
        shutil.copyfile(path, folder / name)
    return settings


def _local_files(field: str, value: str) -> list[Path]:
    """The files that a relative path stands for; none where it is absolute, or the name of something else."""
    path = locate_anywhere(value)
    if path.is_absolute():
        return []
    if field == "corpus.files":
        return list(find_files([value]).files)
    return [path] if path.is_file() else []


def _require_small(files: Mapping[Path, str]) -> None:
    for path in files:
        try:
            require_regular(path)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    size = sum(path.stat().st_size for path in files)
    if size > MOST_BYTES:
        raise ConfigError(
            f"the files that the config names by relative paths are {decimal(size)}, and up to {decimal(MOST_BYTES)} "
            f"are sent along ({', '.join(map(str, list(files)[:3]))}{', …' if len(files) > 3 else ''}); {_WAY_OUT}"
        )


def _each(settings: Settings, fields: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every text in one of the dotted fields, where it stands alone, in a list, or there as the `path` of something."""
    for field in fields:
        holder, name = _holder(settings, field)
        held = holder.get(name)
        for value in held if isinstance(held, list) else [held]:
            if value is not None:
                yield field, value["path"] if isinstance(value, dict) else value


def _holder(settings: Settings, field: str) -> tuple[Settings, str]:
    """The mapping in which a dotted field stands, empty where there is none, and its name there."""
    *sections, name = field.split(".")
    holder = settings
    for section in sections:
        holder = holder.get(section) or {}
    return holder, name


def _all_but_code(folder: str, names: list[str]) -> set[str]:
    """What of a package is not sent: compiled code, and whatever editors leave behind."""
    kept = {name for name in names if Path(folder, name).is_dir() or name.endswith((".py", ".yaml"))}
    return set(names) - kept | {"__pycache__"}
