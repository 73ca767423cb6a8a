"""JSON lines: one object per line."""

import json
from collections.abc import Iterator
from typing import Any

from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.texts.columns import repeated
from schemas.texts.format import Format, Record, Source
from schemas.texts.lines import decode, read_lines


class JsonLines(Format):
    """Blank lines are passed over; a key that is given twice is refused, because JSON lets the last one win."""

    name, suffixes, compressible = "json_lines", (".jsonl", ".json", ".ndjson"), True

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`."""
        for number, line in read_lines(source):
            if not line or line.isspace():
                continue
            place = f"{source.path}:{number}"
            record = _parse(decode(line, source.path, number), place)
            if not isinstance(record, dict):
                kind = type(record).__name__
                raise CorpusError(f"{place}: a record is a JSON object, this is a {kind}{_hint(line)}")
            yield number, record


FORMAT = JsonLines()


class _RepeatedKeyError(ValueError):
    """The message is the key."""


def _parse(text: str, place: str) -> Any:
    try:
        return _DECODER.decode(text)
    except _RepeatedKeyError as error:
        raise CorpusError(f"{place}: the key {error} is given twice; keep one of them") from error
    except json.JSONDecodeError as error:
        raise CorpusError(f"{place}: not JSON: {error}{_hint(text.encode())}") from error
    except RecursionError as error:
        raise CorpusError(f"{place}: nested too deeply to be read") from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise CorpusError(f"{place}: a number cannot be read: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError(quoted(str(repeated(key for key, _ in pairs))))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)  # made once: json.loads would make one per line


def _hint(line: bytes) -> str:
    if line.lstrip()[:1] == b"[":
        return "; one object per line is wanted, and this looks like one long array: `jq -c '.[]'` turns it into lines"
    if line.strip() == b"{":
        return "; one object per line is wanted, and this one seems to span several: `jq -c .` puts it on one"
    return ""
