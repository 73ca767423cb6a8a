"""A lake that every machine of the team has mounted, each where its environment says."""

import os
from pathlib import Path

from schemas.storage.storage import Storage


class Lake(Storage):
    """lake://folder/name"""

    name = "lake"

    def locate(self, url: str) -> Path:
        if "LAKE" not in os.environ:
            raise ValueError("set LAKE to where the lake is mounted")
        return Path(os.environ["LAKE"], url.removeprefix("lake://"))


STORAGE = Lake()
