"""Texts that are held out, read whole into memory from any file of records, or from the lines of a plain text."""

from pathlib import Path

from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.texts.fields import text_of
from schemas.texts.format import find_format, known_suffixes
from schemas.texts.lines import PlainText
from schemas.texts.records import read_records

DEFAULT_FIELD = "text"  # a config that is written out names it beside a plain text, too
MOST_CHARACTERS = 1 << 30  # of all texts together


def read_texts(path: Path, field: str = DEFAULT_FIELD, limit: int | None = None) -> list[str]:
    """The first `limit` texts of a file: `field` of its records, or its lines where its name is not a record file's.

    Blank texts are left out. Raises CorpusError with file and line: as `read_records` does, no such field, not a
    string, half a character, nothing left, or more than fits into memory; and if a field is named of a plain text,
    which has none.
    """
    if field != DEFAULT_FIELD and find_format(path) is None:
        raise CorpusError(
            f"{path} is read as plain text, line by line, and has no field {quoted(field)}: records stand in files "
            f"whose names end in {known_suffixes()}; rename it, or leave the field out"
        )
    texts: list[str] = []
    characters = 0
    for number, record in read_records(path, [field], otherwise=PlainText()):
        if len(texts) == limit:
            break
        text = text_of(record, field, f"{path}:{number}")
        characters += len(text)
        if characters > MOST_CHARACTERS:
            raise CorpusError(f"{path}: more than {MOST_CHARACTERS:,} characters are held out; set a limit")
        if text.strip():
            texts.append(text)
    if not texts:
        raise CorpusError(f"{path} holds no text to evaluate on")
    return texts
