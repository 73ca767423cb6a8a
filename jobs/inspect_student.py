"""`stillroom inspect CACHE --student FOLDER`: how a student's tokens fit a cache's, before any training.

Over at most 1,000 samples, the same ones every time; costs a few seconds, most of it for comparing two vocabularies.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from jobs.presets import PRESETS
from jobs.report.marks import Marks, learnt_characters, mark
from jobs.report.templates import describe_template
from jobs.report.turns import TEMPLATE, turn_of, turns_table
from schemas.cache.arrays import keeps_tokens
from schemas.cache.readable import ReadableCache
from schemas.cache.samples import CachedSample
from schemas.cache.union import open_readable
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.configs.yaml import load_config
from schemas.console import make_console
from schemas.errors import CacheError
from schemas.models.files import resolve_model
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from schemas.models.tokenizer import load_tokenizer
from schemas.models.tokenizer_rules import same_tokenizer
from schemas.models.tokenizer_run import run_tokenizer
from schemas.shown import percent
from trainer.alignment.quality import (
    MEASURED,
    REASONS,
    AlignmentQuality,
    VocabularyCoverage,
    describe_begin_twice,
    drawn,
    measure_alignment,
    measure_vocabulary,
)
from trainer.alignment.spans import aligned_spans
from trainer.alignment.student_conversation import StudentConversation
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.token_pairs import measure_pairs
from trainer.runs.model import model_name, without_runs
from trainer.student.chat_template import conversation_reader
from trainer.student.load import load_student_tokenizer


def show_student(paths: Sequence[Path], student: str, max_tokens: int | None, sample_id: str | None = None) -> None:
    """Print the shared vocabulary and the alignment, over many samples and in the one that `sample_id` names; several
    caches are read as one.

    `student` is a run, model or tokenizer by folder or hub id, or a training config: then samples are cut where that
    run will cut them. Raises CacheError, ConfigError, ModelError, TokenizerError, or RunError for an unfinished run.
    """
    cache = open_readable(paths)
    if not keeps_tokens(cache.manifest.arrays):
        raise CacheError(f"{cache} keeps sentence embeddings and no tokens: any student's tokenizer fits it")
    sample = None if sample_id is None else cache.sample(cache.position(sample_id))
    config, tokenizer = _student(student, cache.path)
    max_tokens = max_tokens or config.max_tokens
    teacher_tokenizer = load_teacher_tokenizer(cache.path, cache.manifest)
    reader = conversation_reader(config, tokenizer, cache.path, cache.manifest.conversations)
    text_tokenizer = StudentTokenizer(tokenizer, max_tokens, append_eos=False, conversations=reader)
    vocabulary = measure_vocabulary(cache, text_tokenizer, teacher_tokenizer, MEASURED, seed=0)
    quality = measure_alignment(cache, text_tokenizer, MEASURED, seed=0)
    measured = f"{quality.samples:,} of {len(cache):,} samples, cut at {max_tokens:,} student tokens"
    is_same = same_tokenizer(tokenizer, teacher_tokenizer)
    kind = "the teacher's" if is_same else "another than the teacher's"
    rows = {"student": f"{student}; its tokenizer is {kind}", "measured": measured}
    if reader is not None:
        rows["template"] = describe_template(reader.template.source, reader.template.arguments)
        rows |= _pair_rows(cache, text_tokenizer) if is_same else {}
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
    labels, own_labels, spans = aligned_spans(sample.token_offsets, text.offsets, sample.targets)
    reader = text_tokenizer.conversations
    own = None if reader is None or not text.own_template else reader.read(sample)
    shown = "" if own is None else "its own text, "
    console.print(
        f"\nsample {sample.id}: {len(sample.token_ids):,} tokens of the teacher's, {len(text.ids):,} of the student's, "
        f"{spans:,} aligned spans; shown: {shown}| where a span ends, what is not learnt dim",
        soft_wrap=True,
    )
    if own is not None:
        offsets = _offsets(text_tokenizer, own)[: len(text.ids)]
        console.print(_own_text(sample, own, _span_ends(offsets, own_labels, spans)))
        return
    learnt, marks = learnt_characters(len(sample.text), sample.targets), _span_ends(sample.token_offsets, labels, spans)
    if sample.turns:
        turn_C = turn_of(len(sample.text), sample.turns)
        console.print(turns_table(sample.text, sample.turns, turn_C, learnt, marks))
    else:
        console.print(mark(sample.text, learnt, marks))


def _span_ends(offsets: np.ndarray, labels: np.ndarray, spans: int) -> Marks:
    """A mark where each span ends, in the text whose tokens have these offsets."""
    return {int(offsets[labels == span, 1].max()): ("|", "") for span in range(spans)}


def _offsets(text_tokenizer: StudentTokenizer, own: StudentConversation) -> np.ndarray:
    """[S, 2]: what each of the student's tokens covers of its own text."""
    encoded = run_tokenizer(text_tokenizer.tokenizer, own.text, add_special_tokens=False, return_offsets_mapping=True)
    return np.array(encoded["offset_mapping"], np.int64).reshape(-1, 2)


def _own_text(sample: CachedSample, own: StudentConversation, marks: Marks) -> Table:
    """The conversation in the student's template. Contents are known by the teacher's characters that they are."""
    theirs = np.append(turn_of(len(sample.text), sample.turns), TEMPLATE)  # place -1 is nowhere
    learnt = learnt_characters(len(own.text), own.targets)
    return turns_table(own.text, sample.turns, theirs[own.place_C], learnt, marks)


def _student(student: str, cache: Path) -> tuple[StudentConfig, PreTrainedTokenizerBase]:
    """The student that is named, and its tokenizer; of a folder everything else is as a config has it by itself."""
    if student.endswith((".yaml", ".yml")):
        config = load_config(Path(student), TrainingConfig, presets=PRESETS).student
        return config, load_student_tokenizer(without_runs(config), cache)
    folder = resolve_model(model_name(student), None)
    return StudentConfig(model=str(folder)), load_tokenizer(folder)


def _pair_rows(cache: ReadableCache, text_tokenizer: StudentTokenizer) -> dict[str, str]:
    found = measure_pairs(drawn(cache, text_tokenizer, MEASURED, seed=0))
    missing = found.targets - found.paired
    why = ": what precedes them differs between the two templates" if missing else ""
    return {
        "read alike": f"{found.same_text:,} samples, to the character",
        "target tokens": f"{found.targets:,}, of which {missing:,} have no pair among the teacher's{why}",
    }


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
