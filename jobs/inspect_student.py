"""`stillroom inspect CACHE --student FOLDER`: how a student's tokens fit a cache's, before any training.

Over at most 1,000 samples, the same ones every time; costs a few seconds, most of it for comparing two vocabularies.
"""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from jobs.presets import PRESETS
from jobs.report.marks import mark
from schemas.cache.arrays import keeps_tokens
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.configs.yaml import load_config
from schemas.console import make_console
from schemas.errors import CacheError
from schemas.models.files import resolve_model
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from schemas.models.tokenizer import load_tokenizer
from schemas.models.tokenizer_rules import same_tokenizer
from schemas.shown import percent
from trainer.alignment.quality import (
    MEASURED,
    REASONS,
    AlignmentQuality,
    VocabularyCoverage,
    describe_begin_twice,
    measure_alignment,
    measure_vocabulary,
)
from trainer.alignment.spans import aligned_spans
from trainer.alignment.student_text import StudentTokenizer
from trainer.runs.model import model_name, without_runs
from trainer.student.load import load_student_tokenizer


def show_student(path: Path, student: str, max_tokens: int | None, sample_id: str | None = None) -> None:
    """Print the shared vocabulary and the alignment, over many samples and in the one that `sample_id` names.

    `student` is a run, model or tokenizer by folder or hub id, or a training config: then samples are cut where that
    run will cut them. Raises CacheError, ConfigError, ModelError, TokenizerError, or RunError for an unfinished run.
    """
    cache = Cache(path)
    if not keeps_tokens(cache.manifest.arrays):
        raise CacheError(f"{path} keeps sentence embeddings and no tokens: any student's tokenizer fits it")
    sample = None if sample_id is None else cache.sample(cache.position(sample_id))
    tokenizer, longest = _tokenizer(student, path)
    max_tokens = max_tokens or longest
    teacher_tokenizer = load_teacher_tokenizer(path, cache.manifest)
    text_tokenizer = StudentTokenizer(tokenizer, max_tokens, append_eos=False)
    vocabulary = measure_vocabulary(cache, text_tokenizer, teacher_tokenizer, MEASURED, seed=0)
    quality = measure_alignment(cache, text_tokenizer, MEASURED, seed=0)
    measured = f"{quality.samples:,} of {len(cache):,} samples, cut at {max_tokens:,} student tokens"
    kind = "the teacher's" if same_tokenizer(tokenizer, teacher_tokenizer) else "another than the teacher's"
    rows = {"student": f"{student}; its tokenizer is {kind}", "measured": measured}
    rows |= _vocabulary_rows(vocabulary) | _alignment_rows(quality)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    for name, value in rows.items():
        table.add_row(name, value)
    console = make_console()
    console.print(table)
    if sample is not None:
        _show_alignment(console, sample, text_tokenizer)


def _show_alignment(console: Console, sample: CachedSample, text_tokenizer: StudentTokenizer) -> None:
    (text,) = text_tokenizer([sample])
    labels, _, spans = aligned_spans(sample.token_offsets, text.offsets, sample.targets)
    ends = {span: int(sample.token_offsets[labels == span, 1].max()) for span in range(spans)}
    console.print(
        f"\nsample {sample.id}: {len(sample.token_ids):,} tokens of the teacher's, {len(text.ids):,} of the student's, "
        f"{spans:,} aligned spans; shown: | where a span ends, what is not learnt dim",
        soft_wrap=True,
    )
    console.print(mark(sample, dict.fromkeys(ends.values(), "|")))


def _tokenizer(student: str, cache: Path) -> tuple[PreTrainedTokenizerBase, int]:
    """The student's tokenizer, and where its samples are cut."""
    if student.endswith((".yaml", ".yml")):
        config = load_config(Path(student), TrainingConfig, presets=PRESETS).student
        return load_student_tokenizer(without_runs(config), cache), config.max_tokens
    return load_tokenizer(resolve_model(model_name(student), None)), StudentConfig.model_fields["max_tokens"].default


def _vocabulary_rows(found: VocabularyCoverage) -> dict[str, str]:
    student, teacher = found.shared / found.student_size, found.shared / found.teacher_size
    return {
        "shared vocabulary": f"{found.shared:,} tokens: {percent(student)} of the student's {found.student_size:,}, "
        f"{percent(teacher)} of the teacher's {found.teacher_size:,}",
        "shared in the texts": f"{percent(found.student_tokens)} of the student's tokens, "
        f"{percent(found.teacher_tokens)} of the teacher's",
    }


def _alignment_rows(found: AlignmentQuality) -> dict[str, str]:
    why = "".join(f"; {found.skipped[reason]:,} {said}" for reason, said in REASONS.items() if reason in found.skipped)
    twice = {"note": describe_begin_twice(found.begin_twice, found.samples)} if found.begin_twice else {}
    return twice | {
        "aligned spans": f"{found.spans_mean:.1f} per sample",
        "covered by spans": f"{percent(found.coverage_mean)} of the response, {percent(found.coverage_min)} in the "
        "worst sample",
        "samples without spans": f"{sum(found.skipped.values()):,}{why}",
    }
