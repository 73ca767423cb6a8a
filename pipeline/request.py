"""A config made definite: files found, model resolved, corpus planned, identity known. What `stillroom plan` shows.

Costs one pass over the corpus and one hash over the teacher's weights; runs no teacher and starts no Ray.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipeline.arrays import list_arrays, pooled_record, sparse_records
from pipeline.corpus import Corpus, read_corpus
from pipeline.identity import make_identity
from pipeline.plan import Plan, make_plan
from pipeline.spans import load_annotator
from pipeline.teacher_record import describe_teacher
from schemas.errors import ConfigError
from schemas.extraction import ExtractionConfig
from schemas.fingerprint import fingerprint, hash_files
from schemas.manifest import CacheManifest, keeps_tokens
from schemas.model_files import hash_model, load_tokenizer, resolve_model

UNANNOTATED = "nobody"  # the annotator of a cache that keeps no tokens, and so no spans
LIBRARIES = ("numpy", "pyarrow", "ray", "tokenizers", "torch", "transformers", "zarr")


@dataclass(frozen=True)
class ModelFolders:
    """Where the teacher's files lie on this machine."""

    model: Path
    tokenizer: Path
    adapter: Path | None


@dataclass(frozen=True)
class Request:
    """Everything about an extraction that is settled before a teacher runs."""

    config: ExtractionConfig
    folders: ModelFolders
    corpus: Corpus
    plan: Plan
    manifest: CacheManifest


def make_request(config: ExtractionConfig) -> Request:
    """Settle `config`. Raises ConfigError, ModelError, TokenizerError, AnnotatorError or CorpusError."""
    teacher = config.teacher
    if teacher.device == "cuda" and config.workers.gpus == 0:
        raise ConfigError("teacher.device is cuda, but workers.gpus is 0: Ray assigns no GPU; set workers.gpus to 1")
    corpus = read_corpus(config.corpus)
    folders = find_folders(config)
    record = describe_teacher(teacher, folders.model)
    arrays = list_arrays(config.states, record)
    pooled, sparse = pooled_record(config.states, record), sparse_records(config.states)
    tokenizer = load_tokenizer(folders.tokenizer, teacher.trust_remote_code)
    annotator = load_annotator(config.spans.annotator).version if keeps_tokens(arrays) else UNANNOTATED
    plan = make_plan(corpus, tokenizer, config.batching, teacher.max_tokens)
    hashes = hash_model(folders.model)
    identity = make_identity(
        config,
        model_hashes=hashes,
        adapter_hash=None if folders.adapter is None else hash_folder(folders.adapter),
        tokenizer_hash=hashes["tokenizer"]
        if folders.tokenizer == folders.model
        else hash_model(folders.tokenizer)["tokenizer"],
        arrays=arrays,
        pooled=pooled,
        sparse=sparse,
        annotator_version=annotator,
        corpus=plan.corpus,
    )
    manifest = CacheManifest(
        fingerprint=fingerprint(identity),
        identity=identity,
        teacher=record,
        annotator=annotator,
        arrays=arrays,
        pooled=pooled,
        sparse=sparse,
        corpus=plan.corpus,
        units=len(plan.units),
        provenance={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    )
    return Request(config, folders, corpus, plan, manifest)


def find_folders(config: ExtractionConfig) -> ModelFolders:
    """The teacher's folders on this machine, fetched from the hub where they are not local."""
    teacher = config.teacher
    model = resolve_model(teacher.model, teacher.revision)
    tokenizer = model if teacher.tokenizer is None else resolve_model(teacher.tokenizer, None)
    adapter = None if teacher.adapter is None else resolve_model(teacher.adapter, None)
    return ModelFolders(model, tokenizer, adapter)


def hash_folder(folder: Path) -> str:
    """One hash over all files of an adapter."""
    return hash_files(folder, sorted(path for path in folder.rglob("*") if path.is_file()))
