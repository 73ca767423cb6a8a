"""Folders that `save_to_disk` of Hugging Face's `datasets` wrote: which of their files are the data, in which order.

Beside the data lie the caches of whatever was computed from it since, tables too, and what an older save has left.
"""

import json
from pathlib import Path
from typing import Any

from schemas.errors import CorpusError
from schemas.shown import listed
from schemas.storage.regular import read_bytes

STATE, SPLITS = "state.json", "dataset_dict.json"


def saved_files(folder: Path) -> list[Path] | None:
    """The files of the data set that a folder is, in its order; None if it is none.

    Raises CorpusError: a file is missing, is elsewhere, or is read through an index of rows, as old versions saved it.
    """
    state = _read(folder / STATE)
    if not isinstance(state, dict) or "_data_files" not in state:
        return None
    if state.get("_indices_data_files"):
        raise CorpusError(
            f"the data set {folder} is saved with an index of its rows; save it again with `flatten_indices()`"
        )
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise CorpusError(f"{folder / STATE} does not say which files are the data; save the data set again") from error
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        raise CorpusError(f"the data set {folder} lacks files that {STATE} names: {listed(missing)}; save it again")
    return [folder / name for name in names]


def require_one_split(folder: Path) -> None:
    """Raises CorpusError for a folder of several splits, such as train and test: they are not one corpus."""
    found = _read(folder / SPLITS)
    splits = found.get("splits") if isinstance(found, dict) else None
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise CorpusError(f"{folder / SPLITS} does not name the splits of a data set; name the files that are meant")
    if len(splits) > 1:
        raise CorpusError(
            f"the folder {folder} is a data set of {len(splits)} splits, {listed(splits)}, which are not read as one "
            f"corpus; name the one that is meant: {folder / splits[0]}"
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise CorpusError(
            f"cannot read {path}, which describes a data set: {why}; name the files themselves"
        ) from error
