"""Listings of S3, page by page: names, sizes and ETags, which are all that is asked of them.

botocore makes Python objects of everything that a page says of a name, among them a date, and s3fs sorts the names into
folders: a quarter of a millisecond for each name, and a cache of 10,000 units has 80,000. Here botocore sees a page
without its names, and these are read by the XML parser alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

EVENT = "before-parse.s3.ListObjectsV2"  # botocore's


@dataclass(frozen=True)
class Page:
    """Up to a thousand files."""

    files: Mapping[str, tuple[int, str]]  # size and ETag of each, by its path below what is listed
    token: str | None  # of the next page; None after the last


def is_s3(files: Any) -> bool:
    """Whether a file system of fsspec is s3fs's."""
    return hasattr(files, "call_s3")


def read_page(files: Any, path: str, token: str | None) -> Page:
    """A page of the files below `path`, a bucket or a folder in one: the first, or that of a `token`. Raises what s3fs
    raises."""
    bucket, key, _ = files.split_path(path)
    files.connect()
    files.s3.meta.events.register(EVENT, _take_contents, unique_id=EVENT)
    prefix, after = f"{key.rstrip('/')}/" if key else "", {} if token is None else {"ContinuationToken": token}
    found = files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **after)
    listed = {
        entry["Key"][len(prefix) :]: (entry["Size"], entry.get("ETag", ""))
        for entry in found.get("Contents", ())
        if not entry["Key"].endswith("/")  # a placeholder for a folder
    }
    return Page(listed, found["NextContinuationToken"] if found.get("IsTruncated") else None)


def _take_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **event: Any) -> None:
    """Called by botocore with an answer before it is parsed, and with what is added to the result afterwards."""
    if response_dict["status_code"] != 200:
        return
    try:
        root = ElementTree.fromstring(response_dict["body"])
    except ElementTree.ParseError:
        return  # botocore says so
    space = root.tag.rpartition("}")
    below = f"{space[0]}{space[1]}"
    entries = root.findall(f"{below}Contents")
    if entries:
        customized_response_dict["Contents"] = [
            {
                "Key": entry.findtext(f"{below}Key", ""),
                "Size": int(entry.findtext(f"{below}Size", "0")),
                "ETag": entry.findtext(f"{below}ETag", ""),
            }
            for entry in entries
        ]
        root[:] = [child for child in root if child.tag != f"{below}Contents"]
        response_dict["body"] = ElementTree.tostring(root)
