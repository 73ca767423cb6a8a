"""`stillroom inspect CACHE --student FOLDER`: how a student's tokens fit a cache's, before any training.

Over at most 1,000 samples, the same ones every time; costs a few seconds, most of it for comparing two vocabularies.
"""

from pathlib import Path

from rich.table import Table
from transformers import PreTrainedTokenizerBase

from jobs.presets import PRESETS
from schemas.cache.arrays import keeps_tokens
from schemas.cache.reader import Cache
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.configs.yaml import load_config
from schemas.console import make_console
from schemas.errors import CacheError
from schemas.models.files import resolve_model
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from schemas.models.tokenizer import load_tokenizer
from schemas.models.tokenizer_rules import same_tokenizer
from trainer.alignment.quality import (
    MEASURED,
    REASONS,
    AlignmentQuality,
    VocabularyCoverage,
    describe_begin_twice,
    measure_alignment,
    measure_vocabulary,
)
from trainer.alignment.student_text import StudentTokenizer
from trainer.student.load import load_student_tokenizer


def show_student(path: Path, student: str, max_tokens: int | None) -> None:
    """Print the shared vocabulary and the alignment. Raises CacheError, ConfigError, ModelError or TokenizerError.

    `student` is a model or tokenizer by folder or hub id, or a training config: then samples are cut where that run
    will cut them.
    """
    cache = Cache(path)
    if not keeps_tokens(cache.manifest.arrays):
        raise CacheError(f"{path} keeps sentence embeddings and no tokens: any student's tokenizer fits it")
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
    make_console().print(table)


def _tokenizer(student: str, cache: Path) -> tuple[PreTrainedTokenizerBase, int]:
    """The student's tokenizer, and where its samples are cut."""
    if student.endswith((".yaml", ".yml")):
        config = load_config(Path(student), TrainingConfig, presets=PRESETS).student
        return load_student_tokenizer(config, cache), config.max_tokens
    return load_tokenizer(resolve_model(student, None)), StudentConfig.model_fields["max_tokens"].default


def _vocabulary_rows(found: VocabularyCoverage) -> dict[str, str]:
    student, teacher = found.shared / found.student_size, found.shared / found.teacher_size
    return {
        "shared vocabulary": f"{found.shared:,} tokens: {student:.1%} of the student's {found.student_size:,}, "
        f"{teacher:.1%} of the teacher's {found.teacher_size:,}",
        "shared in the texts": f"{found.student_tokens:.1%} of the student's tokens, "
        f"{found.teacher_tokens:.1%} of the teacher's",
    }


def _alignment_rows(found: AlignmentQuality) -> dict[str, str]:
    why = "".join(f"; {found.skipped[reason]:,} {said}" for reason, said in REASONS.items() if reason in found.skipped)
    twice = {"note": describe_begin_twice(found.begin_twice, found.samples)} if found.begin_twice else {}
    return twice | {
        "aligned spans": f"{found.spans_mean:.1f} per sample",
        "covered by spans": f"{found.coverage_mean:.1%} of the response, {found.coverage_min:.1%} in the worst sample",
        "samples without spans": f"{sum(found.skipped.values()):,}{why}",
    }
