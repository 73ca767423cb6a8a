"""An import. Every sample is read and checked twice: before anything is written, and to be written.

The cache appears whole or not at all. Memory is that of one shard.
"""

import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.annotation.annotator import Annotator, load_annotator
from pipeline.corpus.sample import AnnotatedSample, Sample, hash_sample
from pipeline.corpus.special_tokens import SpecialTokens, said_alone
from pipeline.importing.layout import LAYOUTS
from pipeline.importing.numbers import Numbers, numbers_of
from pipeline.importing.samples import ImportCounts, ImportedSample, read_samples
from pipeline.importing.teacher import ImportedTeacher, describe_imported, load_last_parts
from pipeline.output.shards import as_cached
from pipeline.teacher.files import save_teacher_files
from schemas.cache.index import write_index
from schemas.cache.manifest import FORMAT, TEACHER, VERSION, CacheManifest, CorpusRecord
from schemas.cache.records import nest_records
from schemas.cache.token_rows import count_rows
from schemas.cache.writer import write_manifest, write_shard
from schemas.configs.importing import ImportConfig
from schemas.errors import CacheError, CorpusError
from schemas.models.files import resolve_model
from schemas.models.hashes import hash_config, hash_model, hash_tokenizer
from schemas.models.teacher_tokenizer import rules_of
from schemas.models.tokenizer import read_tokenizer
from schemas.progress import Progress
from schemas.storage.atomic import commit_folder, disk_full, folder_beside
from schemas.storage.fingerprint import fingerprint
from schemas.storage.writable import require_writable

LIBRARIES = ("numpy", "pyarrow", "tokenizers", "torch", "transformers", "zarr")
LEAST_LISTED = 0.5  # share of rows that list the token that follows; a text of a likely kind has most of them


@dataclass
class _Survey:
    """What the first reading came to."""

    units: list[int] = field(default_factory=list)  # samples of each
    tokens: int = 0
    every_row: bool = True
    samples_hash: Any = field(default_factory=hashlib.sha256)
    numbers_hash: Any = field(default_factory=hashlib.sha256)

    def add(self, sample: ImportedSample, numbers: Numbers, unit_tokens: int, in_unit: int) -> int:
        """One sample more; the tokens of its unit so far are given and returned."""
        count = len(sample.tokens.token_ids)
        if not self.units or in_unit + count > unit_tokens:
            self.units.append(0)
            in_unit = 0
        self.units[-1] += 1
        self.tokens += count
        self.every_row = self.every_row and count_rows(sample.token_rows) == count
        tokens = sample.tokens
        targets = tuple((int(start), int(end)) for start, end in tokens.targets)
        self.samples_hash.update(
            hash_sample(Sample(tokens.id, tokens.text, targets, tokens.turns, tokens.structure))[0]
        )
        for values in numbers.plain(sample).values():
            self.numbers_hash.update(np.ascontiguousarray(values).tobytes())
        return in_unit + count


@dataclass(frozen=True)
class Imported:
    """What was written."""

    cache: Path
    manifest: CacheManifest
    counts: ImportCounts
    tokens: int


def run_import(config: ImportConfig) -> Imported:
    """Make the cache that `config` describes.

    Raises CacheError if something is at `output`; CorpusError, ConfigError, ModelError, TokenizerError or
    AnnotatorError for what cannot be imported; ResourceError if the disk is full. Then nothing is left behind.
    """
    cache = config.output.absolute()
    if cache.exists():
        raise CacheError(f"{cache} is there already; name an output that is not")
    require_writable(cache)
    with LAYOUTS.using(config.layout) as layout:
        gives = layout.gives
    folder = resolve_model(config.teacher.model, config.teacher.revision)
    named = config.teacher.tokenizer
    tokenizer_folder = folder if named is None else resolve_model(named, None)
    loaded = read_tokenizer(tokenizer_folder)
    tokenizer = loaded.tokenizer
    record = describe_imported(config.teacher, folder, gives == "hidden")
    parts = load_last_parts(config.teacher, folder) if gives == "hidden" else None
    numbers, counts = numbers_of(config, record, parts), ImportCounts()

    def read(counts: ImportCounts) -> Iterator[ImportedSample]:
        for sample in read_samples(config, tokenizer, folder, record, counts):
            numbers.see(sample)
            yield sample

    survey, in_unit = _Survey(), 0
    for sample in read(counts):
        in_unit = survey.add(sample, numbers, config.unit_tokens, in_unit)
    _require_samples(config, survey, counts)
    annotator = load_annotator(config.spans.annotator)
    # Without the unembedding, the teacher that is in the folder can replay nothing.
    of_model = hash_model(folder) if parts is not None else {"config": hash_config(folder)}
    hashes = {**of_model, "tokenizer": hash_tokenizer(tokenizer_folder), **rules_of(loaded)}
    manifest = _manifest(config, tokenizer, hashes, record, numbers, survey, counts, annotator)
    with disk_full(cache.name, cache.parent), folder_beside(cache) as made:
        write_manifest(made, manifest)
        save_teacher_files(ImportedTeacher(config.teacher, folder, record, parts), made / TEACHER)
        samples, total = read(ImportCounts()), sum(survey.units)
        with Progress("writing", "samples", total) as progress:
            for unit, count in enumerate(survey.units):
                _write_unit(made, unit, [next(samples) for _ in range(count)], manifest, numbers, annotator, tokenizer)
                progress.update(sum(survey.units[: unit + 1]))
        write_index(made, manifest)
        if not commit_folder(made, cache):
            raise CacheError(f"{cache} is there by now; name an output that is not")
    return Imported(cache, manifest, counts, survey.tokens)


def _require_samples(config: ImportConfig, survey: _Survey, counts: ImportCounts) -> None:
    if not survey.units:
        raise CorpusError(f"nothing to import: {counts.unlearnt} samples teach nothing, {counts.unspelt} have no text")
    if counts.rows and counts.listed < LEAST_LISTED * counts.rows:
        raise CorpusError(
            f"of {counts.rows:,} rows only {counts.listed:,} list the token that follows: they are of other positions, "
            "of another tokenizer or of texts that the teacher would not write; such numbers teach nothing"
        )


def _manifest(
    config: ImportConfig,
    tokenizer: PreTrainedTokenizerBase,
    hashes: Mapping[str, str | None],
    record: Any,
    numbers: Numbers,
    survey: _Survey,
    counts: ImportCounts,
    annotator: Annotator,
) -> CacheManifest:
    teacher, samples, sha256 = config.teacher, sum(survey.units), survey.samples_hash.hexdigest()
    arrays, records = numbers.arrays(), numbers.records()
    with LAYOUTS.using(config.layout) as layout:
        conversations = layout.conversations(config, tokenizer)
    rows = "all" if survey.every_row else "targets"
    identity: dict[str, Any] = {
        "format": f"{FORMAT} {VERSION}",
        "imported": config.layout,
        "teacher": {
            **hashes,
            "kind": "causal",
            "dtype": teacher.dtype,
            "device": "cpu",
            "threads": teacher.threads,
            "max_tokens": teacher.max_tokens,
            "append_eos": False,
        },
        "states": {a.path: {"width": a.width, "dtype": a.dtype, "encoding": a.encoding} for a in arrays},
        "corpus": {"sha256": sha256, "samples": samples, "numbers": survey.numbers_hash.hexdigest()},
        "annotator": annotator.version,
        "batching": {"unit_tokens": config.unit_tokens},
        **nest_records(records),
    }
    if rows != "all":
        identity["rows"] = rows
    if conversations is not None:
        identity["conversations"] = conversations.model_dump(mode="json")
    return CacheManifest(
        fingerprint=fingerprint(identity),
        identity=identity,
        teacher=record,
        annotator=annotator.version,
        arrays=arrays,
        rows=rows,
        corpus=CorpusRecord(samples=samples, empty=counts.unlearnt, refused=counts.unspelt, sha256=sha256),
        units=len(survey.units),
        conversations=conversations,
        provenance={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        **nest_records(records),
    )


def _write_unit(
    cache: Path,
    unit: int,
    samples: Sequence[ImportedSample],
    manifest: CacheManifest,
    numbers: Numbers,
    annotator: Annotator,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    special = SpecialTokens(tokenizer)
    texts = [special.hide(said_alone(sample.tokens.text, sample.tokens.turns)) for sample in samples]
    spans = [special.outside(found, s.tokens.text) for found, s in zip(annotator.annotate(texts), samples, strict=True)]
    annotated = [
        AnnotatedSample(
            id=sample.tokens.id,
            text=sample.tokens.text,
            targets=sample.tokens.targets,
            truncated=sample.tokens.truncated,
            token_ids=sample.tokens.token_ids,
            token_offsets=sample.tokens.token_offsets,
            token_rows=sample.token_rows,
            spans=found,
            turns=sample.tokens.turns,
            structure=sample.tokens.structure,
        )
        for sample, found in zip(samples, spans, strict=True)
    ]
    arrays, costs = numbers.pack(samples)
    cached = [as_cached(sample) for sample in annotated]
    write_shard(cache, unit, cached, arrays, manifest.arrays, manifest.fingerprint, 0, costs=costs)
