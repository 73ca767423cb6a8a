"""JSON as text: a line of a file, or what stands in one field of a table."""

import json
from collections.abc import Callable
from typing import Any

from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.texts.repeated import repeated


def parse_json(text: str, place: str, hint: Callable[[str], str] = lambda text: "") -> Any:
    """The value that `text` spells. `hint` ends the message of a text that is not JSON.

    Raises CorpusError, beginning with `place`: not JSON, a key that is given twice, because JSON lets the last one win,
    nested too deeply, a number of more digits than Python reads.
    """
    try:
        return _DECODER.decode(text)
    except _RepeatedKeyError as error:
        raise CorpusError(f"{place}: the key {error} is given twice; keep one of them") from error
    except json.JSONDecodeError as error:
        raise CorpusError(f"{place}: not JSON: {error}{hint(text)}") from error
    except RecursionError as error:
        raise CorpusError(f"{place}: nested too deeply to be read") from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise CorpusError(f"{place}: a number cannot be read: {error}") from error


class _RepeatedKeyError(ValueError):
    """The message is the key."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError(quoted(str(repeated(key for key, _ in pairs))))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)  # made once: json.loads would make one per line
