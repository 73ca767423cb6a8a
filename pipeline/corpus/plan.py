"""The plan: the corpus cut into work units, each of which becomes one shard.

Units are runs of samples in corpus order, so they depend on corpus and config alone: never on workers, tries or time.
How many tokens a sample has is estimated from its bytes, because tokenizing a corpus twice would cost more than
units of uneven size do. One pass over the corpus, at about 30 MB/s on one core; memory grows by 8 bytes per sample and
200 per unit.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.calibration import CalibrationSamples, CalibrationSize
from pipeline.corpus.conversations import ConversationCounts
from pipeline.corpus.corpus import Corpus, UniqueIds
from pipeline.corpus.repeats import Repeats
from pipeline.corpus.sample import Sample, hash_sample
from pipeline.corpus.special_tokens import SpecialTokens
from schemas.cache.arrays import ArrayRecord, keeps_tokens
from schemas.cache.codec import CODECS
from schemas.cache.manifest import CorpusRecord
from schemas.cache.row_units import Unit as RowUnit
from schemas.cache.targets import ends_inside
from schemas.cache.token_rows import count_rows, target_rows
from schemas.configs.extraction import BatchingConfig
from schemas.errors import CorpusError
from schemas.models.tokenizer_run import run_tokenizer

MEASURED_SAMPLES = 256  # tokenized to learn how many bytes there are per token
MEASURED_CHARACTERS = 1 << 18  # of these at a time
# Of samples.arrow, beside the text: 4 bytes of id and 8 of offsets per token; a word or phrase has 8, and there is
# about one per token; ids, lengths and row ranges come to some 100 per sample.
ARROW_BYTES_PER_TOKEN = 20
ARROW_BYTES_PER_SAMPLE = 100
# What compression leaves where no tokens are kept: of English, of an id that is a hash.
TEXT_COMPRESSED, SAMPLE_COMPRESSED = 0.36, 20
SIZE_BYTES = 2  # of a row whose length differs
UNIT_BYTES = 8_192  # what an empty shard takes: zarr.json files, Arrow's schema, shard.json


@dataclass(frozen=True)
class Unit:
    """A run of samples. `tokens` and their `squares` are estimates, everything else is exact."""

    number: int
    first: int  # position of its first sample in the corpus
    samples: int
    text_bytes: int
    tokens: int
    sha256: str
    squares: int = 0  # of the estimated tokens of each sample, in sum


@dataclass(frozen=True)
class End:
    """Where the plan of an earlier, shorter corpus ended."""

    samples: int
    units: int
    sha256: str  # over these samples, as `CorpusRecord.sha256`


@dataclass(frozen=True)
class Plan:
    """All units, and what the corpus came to."""

    units: tuple[Unit, ...]
    corpus: CorpusRecord
    begin_twice: int = 0  # samples that spell out the token that the tokenizer puts before every text
    spell_special: bool = False  # whether any sample spells out a special token
    without_records: tuple[Path, ...] = ()  # files, up to `corpus.limit`
    kept: float = 1.0  # share of the tokens that have rows of hidden states, as measured
    learnt: float = 1.0  # share of the tokens that belong to a target, as measured
    calibration: tuple[Sample, ...] = ()  # what codecs are calibrated on
    conversations: ConversationCounts | None = None  # of a corpus of conversations
    ends: tuple[End, ...] = ()  # of earlier plans, as far as there are so many samples
    spread: float = 1.0  # squares of tokens, in sum, by those of the estimated ones, as measured

    @property
    def samples(self) -> int:
        """Samples in the corpus."""
        return self.corpus.samples

    @property
    def tokens(self) -> int:
        """Estimated teacher tokens."""
        return sum(unit.tokens for unit in self.units)

    def pairs(self, causal: bool, units: Iterable[Unit] | None = None) -> float:
        """Estimated pairs of tokens, as `schemas.cache.row_units` counts them; of some units alone."""
        chosen = self.units if units is None else tuple(units)
        squares = self.spread * sum(unit.squares for unit in chosen)
        return (squares + sum(unit.tokens for unit in chosen)) / 2 if causal else squares

    @property
    def target_tokens(self) -> int:
        """Estimated tokens that belong to a target."""
        return round(self.tokens * self.learnt)

    def of_units(self, units: Sequence[Unit]) -> "Plan":
        """The same of some of its units alone."""
        return replace(self, units=tuple(units))

    @property
    def text_bytes(self) -> int:
        """Bytes of all texts in UTF-8."""
        return sum(unit.text_bytes for unit in self.units)

    def read_units(self, corpus: Corpus, skip: AbstractSet[int] = frozenset()) -> Iterator[tuple[Unit, list[Sample]]]:
        """The units that are not in `skip`, with their samples, one at a time.

        Raises CorpusError if the corpus is not the one that was planned any more.
        """
        samples, place = iter(corpus), 0
        for unit in self.units:
            for _ in islice(samples, unit.first - place):  # of units that are not in this plan
                pass
            members, place = islice(samples, unit.samples), unit.first + unit.samples
            if unit.number in skip:
                for _ in members:
                    pass
                continue
            found = list(members)
            if _hash_samples(found) != unit.sha256:
                last = unit.first + unit.samples - 1
                raise CorpusError(
                    f"the corpus has changed since it was planned (samples {unit.first} to {last} are others now); "
                    "extract the new corpus to another output"
                )
            yield unit, found


def make_plan(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    batching: BatchingConfig,
    max_tokens: int | None = None,
    rows: str = "all",
    calibrate_on: CalibrationSize | None = None,
    ends: Sequence[int] = (),
) -> Plan:
    """Cut `corpus` into units of about `batching.unit_tokens` tokens and at least one sample each.

    A sample counts bytes / r tokens, and never more than `max_tokens`, where r is the bytes a token has in the first
    MEASURED_SAMPLES samples. These also say which share of the tokens `rows` keeps. Codecs are calibrated on as many
    samples as `calibrate_on` says, on none without it.

    `ends` are the numbers of samples, ascending, that the corpus had when it was planned before: what was planned then
    is planned alike now, and codecs are calibrated on the first of these corpora alone.

    Raises CorpusError: no records, only blank ones, an id twice, or whatever reading raises.
    """
    without_records, counts, repeats = list[Path](), ConversationCounts(), Repeats()
    samples = (sample for _, sample in corpus.read(without_records, counts, repeats))
    head = list(_head(samples))
    limit = max_tokens if max_tokens is not None else 1 << 62
    parts = _measure_parts(corpus, head, tokenizer, rows, limit, ends)
    ids, cutter = UniqueIds(), _UnitCutter(batching.unit_tokens, ends)
    calibration = None if calibrate_on is None else CalibrationSamples(calibrate_on)
    special, begin_twice, spell_special, left_out = SpecialTokens(tokenizer), 0, False, 0
    for sample in chain(head, samples):
        if sample is None:
            left_out += 1
            continue
        content, size = hash_sample(sample)
        begin_twice += special.begin(sample.text) and not sample.is_conversation
        spell_special = spell_special or special.are_in(sample.text)
        length = next(part for part in parts if cutter.samples < part.end).measured.tokens_of(size)
        cutter.add(content, size, min(limit, length))
        ids.add(sample.id)
        is_kept = length <= limit or corpus.config.overlong != "skip"  # what is left out teaches nothing
        if calibration is not None and is_kept and cutter.samples <= parts[0].end:
            calibration.offer(sample, content, min(limit, length))
    ids.check(corpus)
    return Plan(
        *cutter.finish(left_out - counts.refused - repeats.found, counts.refused, repeats.found),
        begin_twice,
        spell_special,
        tuple(without_records),
        parts[-1].measured.kept,
        parts[-1].measured.learnt,
        () if calibration is None else calibration.samples,
        None if corpus.conversations is None else counts,
        tuple(cutter.ends),
        parts[-1].measured.spread,
    )


class _UnitCutter:
    """Cuts samples into units as they come: a unit ends before the sample that would make it too large."""

    def __init__(self, unit_tokens: int, ends: Sequence[int]):
        self.samples = 0  # so far
        self.ends = list[End]()
        self._ends = frozenset(ends)
        self._most, self._units, self._whole = unit_tokens, list[Unit](), hashlib.sha256()
        self._first, self._bytes, self._tokens, self._squares, self._digest = 0, 0, 0, 0, hashlib.sha256()

    def add(self, content: bytes, text_bytes: int, tokens: int) -> None:
        """The next sample: its digest, the bytes of its text, and about how many tokens it has."""
        if self.samples in self._ends:
            self._end()
            self.ends.append(End(self.samples, len(self._units), self._whole.copy().hexdigest()))
        elif self.samples > self._first and self._tokens + tokens > self._most:
            self._end()
        self._whole.update(content)
        self._digest.update(content)
        self.samples, self._bytes, self._tokens = self.samples + 1, self._bytes + text_bytes, self._tokens + tokens
        self._squares += tokens * tokens

    def finish(self, empty: int, refused: int, repeated: int) -> tuple[tuple[Unit, ...], CorpusRecord]:
        """All units, and the corpus that they hold, of which so many records were left out."""
        self._end()
        left_out = {"empty": empty, "refused": refused, "repeated": repeated}
        return tuple(self._units), CorpusRecord(samples=self.samples, **left_out, sha256=self._whole.hexdigest())

    def _end(self) -> None:
        size, sha256 = self.samples - self._first, self._digest.hexdigest()
        self._units.append(Unit(len(self._units), self._first, size, self._bytes, self._tokens, sha256, self._squares))
        self._first, self._bytes, self._tokens, self._squares = self.samples, 0, 0, 0
        self._digest = hashlib.sha256()


def predict_bytes(
    plan: Plan,
    arrays: Sequence[ArrayRecord],
    units: Iterable[Unit] | None = None,
    expected_bits: Mapping[str, float] | None = None,
    texts: bool = True,
    causal: bool = True,
) -> int:
    """About how many bytes the shards of `units` (all of them, if left out) will take on disk, teacher/ not counted;
    without `texts`, of arrays that are added beside them.

    `expected_bits` per number, by the array's path, are those of arrays whose codec cannot tell. `causal` is what the
    teacher is.
    """
    per: dict[RowUnit, float] = {"samples": 0.0, "tokens": 0.0, "kept": 0.0, "pairs": 0.0}
    per_text_byte = 1.0
    for array in arrays:
        per[array.unit] += bytes_per_row(array, expected_bits or {})
    per_token, per_sample = per["tokens"] + per["kept"] * plan.kept, per["samples"]
    if not texts:
        per_text_byte = 0.0
    elif keeps_tokens(arrays):
        per_token, per_sample = per_token + ARROW_BYTES_PER_TOKEN, per_sample + ARROW_BYTES_PER_SAMPLE
    else:
        per_sample, per_text_byte = per_sample + SAMPLE_COMPRESSED, TEXT_COMPRESSED
    return round(
        sum(
            UNIT_BYTES
            + unit.tokens * per_token
            + unit.samples * per_sample
            + plan.pairs(causal, [unit]) * per["pairs"]
            + unit.text_bytes * per_text_byte
            for unit in (plan.units if units is None else units)
        )
    )


def bytes_per_row(array: ArrayRecord, expected_bits: Mapping[str, float]) -> float:
    """About how many bytes a row of an array takes on disk; `expected_bits` as in `predict_bytes`."""
    if array.path in expected_bits:
        return expected_bits[array.path] / 8 * (array.width or 1) + SIZE_BYTES
    return CODECS.find(array.encoding).bytes_per_row(array)


def count_array_rows(plan: Plan, array: ArrayRecord, causal: bool = True) -> float:
    """About how many rows all shards will have of an array of a teacher that is `causal` or is not."""
    counts = {"samples": plan.samples, "tokens": plan.tokens, "kept": plan.tokens * plan.kept}
    return plan.pairs(causal) if array.rows == "pairs" else counts[array.unit]


def _head(samples: Iterator[Sample | None]) -> Iterator[Sample | None]:
    """The first MEASURED_SAMPLES samples, and the blank records among them."""
    found = 0
    for sample in samples:
        found += sample is not None
        yield sample
        if found == MEASURED_SAMPLES:
            return


def _first(head: list[Sample | None], samples: int) -> list[Sample | None]:
    """The records up to so many samples."""
    counts = accumulate(sample is not None for sample in head)
    return [sample for sample, count in zip(head, counts, strict=True) if count <= samples]


@dataclass(frozen=True)
class _Measured:
    """What the first samples came to; shares are of their tokens, cut at the longest length."""

    bytes: int
    tokens: int
    kept: float
    learnt: float
    spread: float  # squares of the tokens of each, in sum, by those of what `tokens_of` says

    def tokens_of(self, size: int) -> int:
        """About how many a text of so many bytes has, rounded up."""
        return -(-size * self.tokens // self.bytes)


class _Part(NamedTuple):
    """A plan, of today or earlier: how many samples it ends after, and what it measured."""

    end: float
    measured: _Measured


def _measure(
    corpus: Corpus, head: list[Sample | None], tokenizer: PreTrainedTokenizerBase, rows: str, limit: int
) -> _Measured:
    samples = [sample for sample in head if sample is not None]
    texts = [sample.text for sample in samples]
    if not texts:
        raise CorpusError(_nothing(corpus) if head else f"the corpus holds no records: {_names(corpus)}")
    lengths, counts = list[int](), np.zeros(3, np.int64)
    for some in _batches(samples):
        plain = corpus.conversations is None
        encoded = run_tokenizer(tokenizer, [sample.text for sample in some], add_special_tokens=plain)
        lengths += [len(ids) for ids in encoded["input_ids"]]
        for sample, encoding in zip(some, encoded.encodings or (), strict=bool(encoded.encodings)):
            counts += _count_targets(sample, encoding, limit)
    kept, learnt = (counts[:2] / counts[2]).tolist() if counts[2] else (1.0, 1.0)
    sizes = [len(text.encode()) for text in texts]
    found = _Measured(sum(sizes), max(1, sum(lengths)), kept if rows == "targets" else 1.0, learnt, 1.0)
    true, told = (sum(min(limit, n) ** 2 for n in each) for each in (lengths, map(found.tokens_of, sizes)))
    return replace(found, spread=true / told if told else 1.0)


def _measure_parts(
    corpus: Corpus,
    head: list[Sample | None],
    tokenizer: PreTrainedTokenizerBase,
    rows: str,
    limit: int,
    ends: Sequence[int],
) -> list[_Part]:
    """The earlier plans, and at last, without an end, that of today."""
    then = [_Part(end, _measure(corpus, _first(head, end), tokenizer, rows, limit)) for end in ends]
    return [*then, _Part(math.inf, _measure(corpus, head, tokenizer, rows, limit))]


def _nothing(corpus: Corpus) -> str:
    if corpus.conversations is not None:
        return f"no conversation of the corpus has anything to learn: {_names(corpus)}"
    return f"every record of the corpus is blank in {corpus.config.text or corpus.config.response!r}"


def _names(corpus: Corpus) -> str:
    return ", ".join(map(str, corpus.files))


def _batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """A long sample or several short ones at a time: encodings take a hundred times as much memory as their texts."""
    held, characters = list[Sample](), 0
    for sample in samples:
        if held and characters + len(sample.text) > MEASURED_CHARACTERS:
            yield held
            held, characters = [], 0
        held.append(sample)
        characters += len(sample.text)
    yield held


def _count_targets(sample: Sample, encoding: Encoding, limit: int) -> tuple[int, int, int]:
    """Of a sample cut at `limit`: the tokens that targets need, those that belong to them, and all; none of one that
    loses its targets."""
    targets = np.array(sample.targets, np.int32).reshape(-1, 2)
    offsets = np.array(encoding.offsets[:limit], np.int32).reshape(-1, 2)
    learnt = int(ends_inside(offsets[:, 1], targets).sum())
    return (count_rows(target_rows(offsets, targets)), learnt, len(offsets)) if learnt else (0, 0, 0)


def _hash_samples(samples: list[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(hash_sample(sample)[0])
    return digest.hexdigest()
