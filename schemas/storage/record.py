"""Versioned JSON records: cache.json, shard.json, teacher/files.json, run.json, checkpoint.json. One reader for all.

A record is a small regular file of UTF-8 JSON that names its format and version. Whatever else stands there ends in one
error of the class that the caller chooses: too large, nested too deeply, a key given twice, half of a surrogate pair, a
number that is not finite, an unknown version, a missing field.
"""

import json
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from schemas.errors import StillroomError
from schemas.storage.regular import RECORD_BYTES, read_bytes
from schemas.strict import Strict

MOST_LEVELS = 64  # of nesting: no record has more than 6
MOST_PLACES = 8  # of a damaged record that a message names

Record = TypeVar("Record", bound=Strict)


def read_record(
    path: Path, record: type[Record], raises: type[StillroomError], absent: str, limit: int = RECORD_BYTES
) -> Record:
    """The record in the file `path`.

    Raises `raises`: as `read_content` and `parse_record` do.
    """
    return parse_record(read_content(path, raises, absent, limit), record, path, raises)


def names_format(path: Path, name: str) -> bool:
    """Returns whether the file `path` says that it is a record of the format `name`; damaged or not, of any version."""
    try:
        return f'"{name}"'.encode() in read_bytes(path)
    except OSError:  # there is none, or it cannot be read
        return False


def read_content(path: Path, raises: type[StillroomError], absent: str, limit: int = RECORD_BYTES) -> bytes:
    """The bytes of a small file. Raises `raises`, with a message that begins with `absent` where there is no file."""
    try:
        return read_bytes(path, limit)
    except FileNotFoundError:
        raise raises(f"{absent}: there is no {path.name}") from None
    except OSError as error:
        raise raises(f"cannot read {path}: {error.strerror or error}") from error


def parse_record(content: bytes, record: type[Record], path: Path, raises: type[StillroomError]) -> Record:
    """`content`, which was read from `path`, as a record. An unknown version is named before anything else is judged.

    Raises `raises`: it is not such JSON, of another format or version, or its fields are not what they must be.
    """
    data = parse_object(content, path, raises)
    known = get_args(record.model_fields["format"].annotation)[0], get_args(record.model_fields["version"].annotation)
    version = data.get("version")  # true and 1.0 are equal to 1
    if data.get("format") != known[0] or type(version) is not int or version not in known[1]:
        raise raises(
            f"{path}: this is {data.get('format')!r:.80} version {data.get('version')!r:.80}; this stillroom reads "
            f"{known[0]!r} version {' or '.join(map(str, known[1]))}"
        )
    try:
        return record.model_validate(data)
    except StillroomError as error:  # of something that is not installed here
        raise raises(f"{path}: {error}") from error
    except ValidationError as error:
        places = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        rest = f"; and {len(places) - MOST_PLACES} more" if len(places) > MOST_PLACES else ""
        raise raises(f"{path} is damaged: {'; '.join(places[:MOST_PLACES])}{rest}") from error


def parse_object(content: bytes, path: Path, raises: type[StillroomError]) -> dict[str, Any]:
    """`content`, which was read from `path`, as a JSON object of plain values. Raises `raises`."""
    try:
        data = json.loads(content.decode("utf-8"), object_pairs_hook=without_repetition)
        if not isinstance(data, dict):
            raise ValueError("it is not an object")
        if content.count(b"{") + content.count(b"[") > MOST_LEVELS:  # otherwise no level can be too deep
            _require_levels(data, MOST_LEVELS)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # fails for half of a surrogate pair, too
    except RecursionError:
        raise raises(f"{path} is damaged: it is nested too deeply") from None
    except ValueError as error:
        raise raises(f"{path} is damaged: not JSON ({error})") from error
    return data


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values, as `json` wants its hook. Raises ValueError: a key is given twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _require_levels(value: Any, levels: int) -> None:
    if levels == 0:
        raise RecursionError
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _require_levels(item, levels - 1)
