"""The orders of an extraction that every worker gets, and what of them depends on the machine it is on.

Annotators read this, and start in a second: nothing here imports torch.
"""

import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.annotation.annotator import parse_annotator
from pipeline.request.folders import ModelFolders, Stamps, find_folders
from schemas.cache.manifest import CacheManifest
from schemas.cache.sections import Section, list_sections
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import ModelError
from schemas.models.bare_tokenizer import BareSettings, bare_settings
from schemas.models.gguf_folder import is_gguf
from schemas.storage.published import published_at

if TYPE_CHECKING:
    from pipeline.request.request import Request


@dataclass(frozen=True)
class Job:
    """The orders that every worker gets."""

    config: ExtractionConfig
    folders: ModelFolders  # on the driver's machine
    manifest: CacheManifest
    cache: Path  # absolute, on the driver's machine
    bare: BareSettings | None = None  # with which the teacher's tokenizer.json alone is its tokenizer
    stamps: Stamps = ()  # of the teacher's files on the driver's machine; without, they are hashed again
    url: str | None = None  # where what is written to `cache` is published
    makes: tuple[int, ...] | None = None  # numbers of the sections of which shards or codecs are missing; None: all

    @property
    def sections(self) -> list[Section]:
        """Those in which something is to be made."""
        sections = list_sections(self.cache, self.manifest)
        return [section for section in sections if self.makes is None or section.number in self.makes]


def make_job(request: "Request", cache: Path, makes: tuple[int, ...] | None = None) -> Job:
    """The job for workers, whose working directory is another: paths in the config that are local become absolute."""
    config = request.config
    annotator, argument = parse_annotator(config.spans.annotator)
    spans = config.spans.model_copy(update={"annotator": annotator.spec(_absolute(argument))})
    tokenizer = None if config.teacher.tokenizer is None else _absolute(config.teacher.tokenizer)
    teacher = config.teacher.model_copy(update={"tokenizer": tokenizer})
    job_config = config.model_copy(update={"spans": spans, "teacher": teacher})
    bare = bare_settings(request.tokenizer, request.folders.tokenizer)
    return Job(job_config, request.folders, request.manifest, cache, bare, request.stamps, published_at(cache), makes)


def local_folders(job: Job) -> ModelFolders:
    """The teacher's folders on this machine: those at the driver's paths, or else fetched. Nothing is proven yet."""
    folders = job.folders
    if all(folder is None or folder.is_dir() for folder in (folders.model, folders.tokenizer, folders.adapter)):
        return folders
    return _fetch(job.config.model_dump_json())


@lru_cache(maxsize=2)
def _fetch(config: str) -> ModelFolders:
    return find_folders(ExtractionConfig.model_validate_json(config))


def differs_from_driver(folder: Path, parts: list[str]) -> ModelError:
    """That the `parts` of the teacher in `folder` are not the driver's."""
    return ModelError(
        f"{folder} on {platform.node()} is not the driver's teacher: {', '.join(parts)} differ; "
        "put the same files on every machine, or give `teacher.revision`"
    )


def _absolute(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.absolute()) if name and (path.is_dir() or is_gguf(path)) else name
