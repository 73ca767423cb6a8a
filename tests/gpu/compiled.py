"""A student whose layers are compiled: its first step is that of the student as it is written, and takes less time.

python -m tests.gpu extraction compiled
"""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.gpu.models import training_config
from tests.gpu.steps import OBJECTIVES, loop_of, require_alike, timed

ROUNDS, WARM = 12, 3


def check_compiled(folder: Path) -> Iterator[tuple[str, str]]:
    """In float32 the first step; by default, milliseconds of a step, and ÷ those of the student as it is written."""
    for name in ("ce", "sra"):
        exact: dict[str, Any] = {"precision": "float32", "batch_size": 4}
        config = training_config(folder, f"written-{name}", OBJECTIVES[name], **exact)
        written = loop_of(config, 8).step(0)
        started = time.monotonic()
        compiled = loop_of(config.model_copy(update={"compile": True}), 8).step(0)
        yield f"{name}, compiled: terms, gradient norm", require_alike(written, compiled)
        yield f"{name}: seconds of the first step", f"{time.monotonic() - started:.0f}"
        plain = training_config(folder, f"usual-{name}", OBJECTIVES[name], batch_size=32, loader_workers=4)
        loops = [loop_of(config, 100) for config in (plain, plain.model_copy(update={"compile": True}))]
        seconds = [[timed(loop, number) for loop in loops] for number in range(WARM + ROUNDS)][WARM:]
        ratio, usual_ms = median(b / a for a, b in seconds), 1000 * median(a for a, _ in seconds)
        yield f"{name}: a step of 32 samples, compiled ÷ as written", f"{usual_ms:.0f} ms, {ratio:.2f}"
        for loop in loops:
            loop.close()
