"""Annotating a unit: its tokens, and the spans of what is said. Needs no teacher and no torch; and no transformers,
which loads torch, where the tokenizer.json alone does what the driver's tokenizer does."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.annotation.annotator import ANNOTATORS, Annotator, load_annotator, parse_annotator
from pipeline.annotation.tokens import Counts, TokenizedSample, tokenize
from pipeline.corpus.sample import NO_SPANS, AnnotatedSample, Sample, Spans
from pipeline.corpus.special_tokens import SpecialTokens, said_alone
from pipeline.work.job import Job, differs_from_driver, local_folders
from schemas.cache.arrays import keeps_tokens
from schemas.cache.token_rows import every_row, target_rows
from schemas.errors import AnnotatorError
from schemas.models.bare_tokenizer import AnyTokenizer, BareSettings, BareTokenizer
from schemas.models.hashes import hash_tokenizer
from schemas.models.tokenizer import load_tokenizer


@dataclass(frozen=True)
class AnnotatedUnit:
    """A unit, ready for the teacher."""

    number: int
    samples: list[AnnotatedSample]
    counts: Counts


def annotate_unit(job: Job, number: int, samples: list[Sample]) -> AnnotatedUnit:
    """Tokens and spans of a unit's samples; no spans where no tokens are kept, or where they are in the cache already.
    Tools are loaded once per process.

    Raises ModelError or AnnotatorError if this machine's tokenizer or annotator is not the driver's, and whatever
    `tokenize` raises.
    """
    tokenizer = job_tokenizer(job)
    tokenized, counts = tokenize(samples, tokenizer, job.config.teacher, job.config.corpus.overlong)
    special = SpecialTokens(tokenizer)
    wanted = keeps_tokens(job.manifest.arrays) and any(section.holds_texts for section in job.sections)
    spans = _find_spans(job, tokenized, special) if wanted else [NO_SPANS] * len(tokenized)
    rows = job.manifest.rows
    annotated = [annotated_sample(t, s, rows) for t, s in zip(tokenized, spans, strict=True)]
    return AnnotatedUnit(number, annotated, counts)


def job_tokenizer(job: Job) -> AnyTokenizer:
    """The teacher's tokenizer on this machine. Raises ModelError if it is not the driver's."""
    wanted = job.manifest.identity["teacher"]["tokenizer"]
    return _tokenizer(local_folders(job).tokenizer, job.config.teacher.trust_remote_code, wanted, job.bare)


def annotated_sample(tokens: TokenizedSample, spans: Spans, rows: str) -> AnnotatedSample:
    """A sample with its spans; `rows` says which of its tokens keep states, `all` or `targets`."""
    targets, offsets = tokens.targets, tokens.token_offsets
    return AnnotatedSample(
        id=tokens.id,
        text=tokens.text,
        targets=targets,
        truncated=tokens.truncated,
        token_ids=tokens.token_ids,
        token_offsets=offsets,
        token_rows=target_rows(offsets, targets) if rows == "targets" else every_row(len(offsets)),
        spans=spans,
        turns=tokens.turns,
        structure=tokens.structure,
    )


def _find_spans(job: Job, samples: list[TokenizedSample], special: SpecialTokens) -> list[Spans]:
    spec = job.config.spans.annotator
    annotator = _annotator(spec)
    if annotator.version != job.manifest.annotator:
        raise AnnotatorError(
            f"this worker's annotator is {annotator.version}, the cache's {job.manifest.annotator}; install one on all"
        )
    texts = [special.hide(said_alone(sample.text, sample.turns)) for sample in samples]
    with ANNOTATORS.using(parse_annotator(spec)[0].name):
        found = annotator.annotate(texts)
        if len(found) != len(texts):
            raise ValueError(f"it found spans of {len(found)} texts, and {len(texts)} were given")
    return [special.outside(spans, sample.text) for spans, sample in zip(found, samples, strict=True)]


@lru_cache(maxsize=2)
def _tokenizer(folder: Path, trust_remote_code: bool, wanted: str, bare: BareSettings | None) -> AnyTokenizer:
    if hash_tokenizer(folder) != wanted:
        raise differs_from_driver(folder, ["tokenizer"])
    return load_tokenizer(folder, trust_remote_code) if bare is None else BareTokenizer(folder, bare)


@lru_cache(maxsize=2)
def _annotator(spec: str) -> Annotator:
    return load_annotator(spec)
