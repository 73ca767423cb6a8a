"""Encoded states: decoded on a GPU as on a CPU, and a step from them beside one from raw states.

python -m tests.gpu encoded
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from schemas.cache.reader import Cache
from schemas.models.state_decoder import DecodersByDevice, load_decoders
from tests.caches import build_cache
from tests.encoded import invent_cache
from tests.gpu.extraction import STATES
from tests.gpu.models import extraction_config, training_config
from tests.gpu.steps import OBJECTIVES, first_report, loop_of, require_alike, timed
from trainer.data.encoded_states import EncodedStates
from trainer.data.request import Drawn


def check_encoded(folder: Path) -> Iterator[tuple[str, str]]:
    """States are decoded on the GPU as on the CPU, losses from them are the same, and a step from an encoded cache
    takes no longer than from the raw one."""
    raw = build_cache(extraction_config(folder, "raw", "cuda", threads=8, stored="bfloat16"))
    invent_cache(raw, folder / "encoded", stages=3.5 / 8, inner_stages=1.25 / 8)
    yield from decoded_on_either(Cache(folder / "encoded"))
    for name in ("kd", "sra", "mta", "fdd"):
        cpu, gpu = (first_report(folder, name, device, "teacher", "encoded") for device in ("cpu", "cuda"))
        yield f"{name}, encoded: terms, gradient norm", require_alike(cpu, gpu)
    for name in ("kd", "sra", "mta"):
        settings: dict[str, Any] = {"batch_size": 32, "loader_workers": 4}
        loops = [
            loop_of(training_config(folder, f"{cache}-{name}", OBJECTIVES[name], cache=folder / cache, **settings), 100)
            for cache in ("raw", "encoded")
        ]
        seconds = [[timed(loop, number) for loop in loops] for number in range(18)][3:]
        of_raw, ratio = (sorted(figures)[7] for figures in ([a for a, _ in seconds], [b / a for a, b in seconds]))
        yield f"{name}: a step from the raw cache, encoded ÷ raw", f"{1000 * of_raw:.0f} ms, {ratio:.3f}"
        del loops
        torch.cuda.empty_cache()


def decoded_on_either(cache: Cache) -> Iterator[tuple[str, str]]:
    """The largest difference of decoded states and coordinates, in parts of a row's length; and time per row."""
    positions = list(range(0, len(cache), 3))
    decoders = DecodersByDevice(load_decoders(cache.path, cache.manifest))
    drawn = Drawn(cache, positions, [cache.sample(position) for position in positions], [])
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for array in cache.arrays_of("hidden"):
        rows = drawn.encoded_states(array)
        assert isinstance(rows, EncodedStates)
        for as_coordinates in (False, True):
            asked = replace(rows, as_coordinates=as_coordinates)
            there = asked.to(cuda)
            decoder = decoders.on(cuda)["hidden", array.layer]
            for _ in range(2):  # the first makes what is looked up
                torch.cuda.synchronize()
                started = time.perf_counter()
                found_BTx = there.decode(decoder)
                torch.cuda.synchronize()
                seconds = time.perf_counter() - started
            wanted_BTx = asked.decode(decoders.on(cpu)["hidden", array.layer])
            lengths = wanted_BTx.norm(dim=-1).clamp_min(1e-6)
            worst = float(((found_BTx.cpu() - wanted_BTx).norm(dim=-1) / lengths).max())
            assert worst < STATES, (array, as_coordinates, worst)
            what = "coordinates" if as_coordinates else "states"
            figure = f"{worst:.1e}, {1e6 * seconds / len(rows.size_N):.2f} us"
            yield f"layer {array.layer}: {what} differ by, GPU per row", figure
