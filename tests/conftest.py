"""The order of the files: what takes longest comes first, so that no process is at work long after the others."""

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# Each takes half a minute or more, the longest first: nearly all start Rays or many processes.
LONGEST = (
    "pipeline/cluster/test_extract.py",
    "pipeline/cluster/test_connection.py",
    "jobs/test_ray_job.py",
    "jobs/test_outside.py",
    "jobs/test_extract.py",
    "pipeline/cluster/test_extract_conversations.py",
    "jobs/demo/test_demo.py",
    "jobs/test_guard.py",
    "jobs/test_fuzz.py",
    "trainer/runs/test_folder.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {HERE / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
