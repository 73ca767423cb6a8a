"""A config made definite: files found, model resolved, corpus planned, identity known. What `stillroom plan` shows.

Costs one pass over the corpus and one hash over the teacher's weights; runs no teacher and starts no Ray.
"""

import platform
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.annotation.annotator import load_annotator
from pipeline.corpus.conversations import conversation_source
from pipeline.corpus.corpus import Corpus, read_corpus
from pipeline.corpus.outside import require_outside
from pipeline.corpus.plan import Plan, Unit, make_plan, predict_bytes
from pipeline.encoding.calibrate import CALIBRATION
from pipeline.request.extension import list_ends, list_parts
from pipeline.request.folders import ModelFolders, Stamps, find_folders, hash_teacher
from pipeline.request.identity import make_identity, version_of
from pipeline.teacher.recipe import require_recipe
from pipeline.teacher.record import describe_teacher
from pipeline.teacher.wanted import WantedStates
from schemas.cache.annotator import UNANNOTATED
from schemas.cache.arrays import keeps_tokens
from schemas.cache.manifest import CacheManifest
from schemas.cache.records import nest_records
from schemas.cache.teacher import QUANTISERS, TeacherRecord
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import ConfigError
from schemas.models.teacher_tokenizer import rules_of
from schemas.models.tokenizer import read_tokenizer
from schemas.storage.fingerprint import fingerprint
from schemas.texts.files import find_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LIBRARIES = ("numpy", "pyarrow", "ray", "tokenizers", "torch", "transformers", "zarr")


@dataclass(frozen=True)
class Request:
    """Everything about an extraction that is settled before a teacher runs."""

    config: ExtractionConfig
    folders: ModelFolders
    corpus: Corpus
    plan: Plan
    manifest: CacheManifest
    tokenizer: "PreTrainedTokenizerBase"
    stamps: Stamps  # of the teacher's files, from before they were hashed

    @property
    def expected_bits(self) -> dict[str, float]:
        """About how many bits per number the arrays take that are still to be calibrated, by path."""
        encoding, last = self.manifest.records.get("hidden"), self.manifest.teacher.num_layers
        if encoding is None or not encoding.is_calibrated:
            return {}
        return {
            array.path: encoding.expected_bits(array.layer == last and self.manifest.teacher.head is not None)
            for array in self.manifest.arrays
            if array.encoding == encoding.codec
        }

    @property
    def learns_from_less(self) -> bool:
        """Whether codecs hold a tolerance that they learn from fewer tokens than usual: they take more bytes than is
        foreseen."""
        encoding = self.manifest.records.get("hidden")
        holds = encoding is not None and encoding.is_calibrated and encoding.bits is None
        return holds and self.plan.tokens < CALIBRATION.least

    def predict_bytes(self, units: Iterable[Unit] | None = None) -> int:
        """About how many bytes the shards of `units` will take on disk; of all, if left out."""
        return predict_bytes(self.plan, self.manifest.arrays, units, self.expected_bits, causal=self.causal)

    @property
    def causal(self) -> bool:
        """Whether the teacher's tokens see those before them alone."""
        return self.manifest.teacher.kind == "causal"

    @property
    def left_out(self) -> tuple[tuple[Path, str], ...]:
        """The files of the corpus that look like data and give no record, and why."""
        return (*self.corpus.left_out, *((path, "holds no record") for path in self.plan.without_records))


def make_request(config: ExtractionConfig, extends: CacheManifest | None = None) -> Request:
    """Settle `config`; where it `extends` a cache, so that its shards stay as they are.

    Raises ConfigError, ModelError, TokenizerError, AnnotatorError or CorpusError; CacheError or CorpusError if it asks
    for less than the cache holds that it `extends`.
    """
    teacher = config.teacher
    if teacher.device == "cuda" and config.workers.gpus == 0:
        raise ConfigError("teacher.device is cuda, but workers.gpus is 0: Ray assigns no GPU; set workers.gpus to 1")
    require_outside(config.output, config.corpus.files)
    find_files(config.corpus.files)  # their mistakes are told before models are looked for
    folders = find_folders(config)
    record = describe_teacher(teacher, folders.model)
    wanted = WantedStates.of_config(config.states, record)
    require_recipe(folders.model, teacher, wanted)
    loaded = read_tokenizer(folders.tokenizer, teacher.trust_remote_code)
    conversations = conversation_source(config, loaded.tokenizer)
    corpus = read_corpus(config.corpus, conversations)
    annotator = load_annotator(config.spans.annotator).version if keeps_tokens(wanted.arrays) else UNANNOTATED
    calibrate_on = CALIBRATION if wanted.is_calibrated else None
    ends = list_ends(extends)
    plan = make_plan(corpus, loaded.tokenizer, config.batching, teacher.max_tokens, wanted.rows, calibrate_on, ends)
    parts = list_parts(extends, plan, wanted.arrays)
    stamps = folders.stamps()
    identity = make_identity(
        config,
        teacher_hashes=hash_teacher(folders, teacher.trust_remote_code) | rules_of(loaded),
        quantisation=record.quantisation,
        arrays=wanted.arrays,
        records=wanted.records,
        rows=wanted.rows,
        annotator_version=annotator,
        plan=plan,
        conversations=None if conversations is None else conversations.record,
        parts=parts,
    )
    manifest = CacheManifest(
        version=version_of(parts),
        fingerprint=fingerprint(identity),
        identity=identity,
        teacher=record,
        annotator=annotator,
        arrays=list(wanted.arrays),
        rows=wanted.rows,
        corpus=plan.corpus,
        units=len(plan.units),
        conversations=None if conversations is None else conversations.record,
        parts=parts,
        provenance=_versions(record),
        **nest_records(wanted.records),
    )
    return Request(config, folders, corpus, plan, manifest, loaded.tokenizer, stamps)


def _versions(teacher: TeacherRecord) -> dict[str, str]:
    """Of Python and of the libraries; with those that quantised weights pass through, where there are some.

    Ray rounds nothing, and who extracts in this process needs none: where it is not installed, nothing is said of it.
    """
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *(QUANTISERS if teacher.quantisation is not None else ())):
        with suppress(PackageNotFoundError) if name in ("ray", *QUANTISERS) else nullcontext():
            found[name] = version(name)
    return found
