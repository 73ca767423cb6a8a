"""Files under URLs, written: in the place of others, made where there is none, removed. Tried again as reads are."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.storage.objects import at_once, attempt, read_object

# Schemes whose folders must be made. Object stores have none, and to make a folder there might make a bucket.
_FOLDERS = ("sftp", "ssh", "smb", "ftp", "hdfs", "webhdfs", "dbfs", "memory")

# For a small file; a library's own limit is of silence on a connection, which an open one may outlast.
ANSWER_SECONDS = 60.0


def put_object(url: str, content: bytes) -> None:
    """Write a small file; one that is there is replaced in one step. Raises StorageError."""
    attempt(url, "write", lambda files, path: _in_folder(url, files, path).pipe_file(path, content))


def put_file(path: Path, url: str) -> None:
    """Write the file `path` to `url`, as `put_object` does. Raises StorageError, OSError of this disk."""
    attempt(url, "write", lambda files, place: _in_folder(url, files, place).put_file(str(path), place))


def put_files(files: dict[Path, str]) -> None:
    """Write several, some at once. Raises as `put_file` does, at the first that fails."""
    at_once(lambda pair: put_file(*pair), list(files.items()))


def create_object(url: str, content: bytes) -> bool:
    """Write a small file where there is none, and return whether this call did. Of many that try, one succeeds.

    `content` must be no other's: by it this tells its own from another's when an answer got lost. Raises StorageError.
    """

    def create(files: Any, path: str) -> None:
        try:
            limit = {"timeout": ANSWER_SECONDS} if files.async_impl else {}
            _in_folder(url, files, path).pipe_file(path, content, mode="create", **limit)
        except OSError as error:
            if _is_refused(error):  # by a server that says less than S3
                raise FileExistsError(path) from error
            raise

    try:
        attempt(url, "write", create)
    except FileExistsError:
        try:
            return read_object(url) == content
        except FileNotFoundError:  # it is gone by now
            return False
    return True


def remove_objects(urls: Iterable[str]) -> None:
    """Remove files, some at once; what is not there is passed over. Raises StorageError."""

    def remove(url: str) -> None:
        try:
            attempt(url, "remove", lambda files, path: files.rm_file(path))
        except FileNotFoundError:
            return

    at_once(remove, list(urls))


def last_change(url: str) -> datetime:
    """When a file was written last, by its storage's clock. Raises FileNotFoundError, StorageError."""
    found: datetime = attempt(url, "look for", lambda files, path: files.modified(path))
    return found


def _in_folder(url: str, files: Any, path: str) -> Any:
    if url.split(":", 1)[0].lower() in _FOLDERS:
        files.makedirs(files._parent(path), exist_ok=True)
    return files


def _is_refused(error: OSError) -> bool:
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")
