"""A corpus: records become samples, each with an id that no other has. It can be read again and again.

Costs one record of memory while it is read, 8 bytes per sample for the proof that ids are unique, and 100 where repeats
are left out.
"""

import hashlib
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import numpy as np

from pipeline.corpus.conversations import ConversationCounts, ConversationSource
from pipeline.corpus.repeats import Repeats
from pipeline.corpus.sample import Sample
from schemas.configs.extraction import CorpusConfig
from schemas.errors import ConfigError, CorpusError
from schemas.shown import quoted
from schemas.texts.fields import field_of, kind_of, require_whole, text_of
from schemas.texts.files import find_files
from schemas.texts.format import Record
from schemas.texts.records import read_records

MOST_CHARACTERS = 1 << 23  # of one sample: more than any book has


@dataclass(frozen=True)
class Corpus:
    """The files of a corpus and how their records are to be read."""

    config: CorpusConfig
    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...] = ()  # files that were not named themselves, and why they are not read
    template: tuple[tuple[str, str | None], ...] = ()  # literal text, then the field after it
    conversations: ConversationSource | None = None  # of records that are conversations

    def __iter__(self) -> Iterator[Sample]:
        """The samples, in the order of files and lines."""
        for _, sample in self.read():
            if sample is not None:
                yield sample

    def read(
        self,
        without: list[Path] | None = None,
        counts: ConversationCounts | None = None,
        repeats: Repeats | None = None,
    ) -> Iterator[tuple[str, Sample | None]]:
        """Place, as `file:line`, and sample; None for a record that is left out, its text or response blank or null, or
        a repeat.

        A file that holds no record is appended to `without`, what became of conversations is added to `counts`, and
        those that are left out as repeats are counted in `repeats`.
        Raises CorpusError naming the place of a record that cannot be a sample.
        """
        counts = ConversationCounts() if counts is None else counts
        repeats, skips = Repeats() if repeats is None else repeats, self.config.repeats == "skip"
        left = self.config.limit
        fields, source = self.fields, self.conversations
        optional, nested = ((), []) if source is None else (source.layout.optional, source.nested)
        for file in self.files:
            place = None
            for line, record in read_records(file, fields, optional=optional, nested=nested):
                place = f"{file}:{line}"
                # Of a repeat nothing is counted. Elsewhere, counts of its own for each record would double the time.
                found = ConversationCounts() if skips else counts
                sample = self._sample(record, place, found)
                if sample is not None:
                    _require_length(sample.text, place)
                    if skips and repeats.holds(sample):
                        yield place, None
                        continue
                    left = None if left is None else left - 1
                if skips:
                    counts.include(found)
                yield place, sample
                if left == 0:
                    return
            if place is None and without is not None:
                without.append(file)

    @property
    def fields(self) -> list[str]:
        """Every field that is read of a record."""
        conversation = [] if self.conversations is None else self.conversations.fields
        named = [*conversation, self.config.text, self.config.prompt, self.config.response, self.config.id]
        return list(dict.fromkeys(field for field in (*named, *(f for _, f in self.template)) if field is not None))

    def _sample(self, record: Record, place: str, counts: ConversationCounts) -> Sample | None:
        config = self.config
        if self.conversations is not None:
            return self._conversation(self.conversations, record, place, counts)
        if config.text is not None:
            prompt, response = "", _text_or_blank(record, config.text, place)
        else:
            assert config.response is not None  # CorpusConfig has seen to it
            response = _text_or_blank(record, config.response, place)
            prompt = self._prompt(record, place)
        if not response.strip():
            if config.empty == "error":
                blank = config.text or config.response
                raise CorpusError(f"{place}: {quoted(blank)} is blank; `corpus.empty: skip` leaves such records out")
            return None
        name = content_id(prompt, response) if config.id is None else _id(record, config.id, place)
        return Sample.of_response(name, prompt, response)

    def _conversation(
        self, source: ConversationSource, record: Record, place: str, counts: ConversationCounts
    ) -> Sample | None:
        name = None if self.config.id is None else _id(record, self.config.id, place)
        refused = counts.refused
        sample = source.sample(record, name, place, counts)
        if sample is None and counts.refused == refused and self.config.empty == "error":
            raise CorpusError(f"{place}: nothing of it is learnt; `corpus.empty: skip` leaves such records out")
        return sample

    def _prompt(self, record: Record, place: str) -> str:
        if self.config.prompt is not None:
            return text_of(record, self.config.prompt, place)
        return "".join(
            literal if field is None else literal + text_of(record, field, place) for literal, field in self.template
        )


def read_corpus(config: CorpusConfig, conversations: ConversationSource | None = None) -> Corpus:
    """The corpus that `config` describes; its files are found now and read when it is iterated.

    `conversations` goes with `config.conversations`. Raises CorpusError: no such file; ConfigError: a template that is
    not one.
    """
    template = () if config.template is None else _parse_template(config.template)
    found = find_files(config.files)
    return Corpus(config, found.files, found.left_out, template, conversations)


def content_id(prompt: str, response: str) -> str:
    """The id of a sample that was given none: 128 bits of a hash over prompt and response, in hex."""
    first = prompt.encode()
    digest = hashlib.sha256(len(first).to_bytes(8, "little"))  # the length keeps ("a", "bc") from being ("ab", "c")
    digest.update(first)
    digest.update(response.encode())
    return digest.hexdigest()[:32]


class UniqueIds:
    """Proves that ids are unique at 8 bytes each: equal hashes are only a suspicion, settled by reading again."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, name: str) -> None:
        """Remember one id."""
        self._hashes.append(_hash(name))

    def check(self, corpus: Corpus) -> None:
        """Raises CorpusError that names an id given twice and both places."""
        hashes = np.sort(np.frombuffer(self._hashes, dtype=np.uint64))
        suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not suspects:
            return
        places: dict[str, str] = {}
        for place, sample in corpus.read():
            if sample is not None and _hash(sample.id) in suspects:
                if sample.id in places:
                    raise CorpusError(_duplicate(sample.id, places[sample.id], place, derived=corpus.config.id is None))
                places[sample.id] = place


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _duplicate(name: str, first: str, second: str, derived: bool) -> str:
    if derived:
        return (
            f"{second} repeats the content of {first}, so both have the id {name}; "
            "`corpus.repeats: skip` leaves such records out; or name a field of unique ids in `corpus.id`"
        )
    return f"{second} has the id {quoted(name)} that {first} has already; ids must be unique"


def _require_length(text: str, place: str) -> None:
    """A tokenizer takes a text whole, at up to 230 bytes of memory and 4 microseconds per character."""
    if len(text) > MOST_CHARACTERS:
        raise CorpusError(
            f"{place}: a text of {len(text):,} characters, and a sample has up to {MOST_CHARACTERS:,}; split the record"
        )


def _text_or_blank(record: Record, field: str, place: str) -> str:
    """A null is how tables and JSON say that there is no text; a field that is missing is a mistake."""
    return "" if field_of(record, field, place) is None else text_of(record, field, place)


def _id(record: Record, field: str, place: str) -> str:
    value = field_of(record, field, place)
    if isinstance(value, float) and not math.isfinite(value):
        raise CorpusError(f"{place}: the id in {quoted(field)} is {value}; give a string or a finite number")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise CorpusError(f"{place}: the id in {quoted(field)} is {kind_of(value)}; give a string or a number")
    name = str(value)
    if not name.strip():
        raise CorpusError(f"{place}: the id in {quoted(field)} is empty")
    require_whole(name, field, place)
    return name


def _parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    """Plain field names only: a template is data, and must not reach into objects."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"corpus.template: {error}; write a brace that is meant as text twice") from error
    for _, field, spec, conversion in parts:
        if field is not None and (not field or field.isdigit() or set(field) & set(".[]") or spec or conversion):
            written = f"{{{field}{(conversion and '!' + conversion) or ''}{(spec and ':' + spec) or ''}}}"
            raise ConfigError(
                f"corpus.template: {quoted(written)} is not the plain name of a field, as in {{instruction}}"
            )
    if not any(field for _, field, _, _ in parts):
        raise ConfigError("corpus.template names no field; write e.g. '### {instruction}\\n'")
    return tuple((literal, field) for literal, field, _, _ in parts)
