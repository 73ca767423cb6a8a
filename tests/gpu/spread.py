"""A teacher of which the GPU, CPU memory and the disk hold a part each, beside the same on one device.

python -m tests.gpu spread
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.caches import build_cache
from tests.gpu.models import extraction_config


def check_spread(folder: Path) -> Iterator[tuple[str, str]]:
    """Shards and unembedding are the same to the byte; how much longer it takes."""
    yield from compare(folder, "cuda", {0: "330MB", "cpu": "180MB"})


def compare(folder: Path, device: str, memory: dict[Any, str]) -> Iterator[tuple[str, str]]:
    """The same on either device. The teacher has 0.4 GB; each device keeps room for the largest layer, of 0.11 GB."""
    seconds, written = [], []
    for name, placement in (("whole", {}), ("spread", {"placement": "spread", "max_memory": memory})):
        started = time.monotonic()
        cache = build_cache(extraction_config(folder, name, device, **placement))
        seconds.append(time.monotonic() - started)
        paths = [path for part in ("shards", "teacher") for path in sorted((cache / part).rglob("*")) if path.is_file()]
        written.append({path.relative_to(cache): path.read_bytes() for path in paths})
    assert written[0] == written[1]
    yield f"{device}: bytes of shards and teacher that are the same", f"{sum(map(len, written[0].values())):,}"
    yield f"{device}: seconds whole, spread", ", ".join(f"{each:.1f}" for each in seconds)
