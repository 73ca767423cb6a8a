"""What encoding adds to extraction: the time of a unit's encoding and its measuring, by that of the teacher's pass.

    python -m tests.benchmarks.encoding EXTRACTION.yaml [--samples 260]

Needs the finished cache of that config, whose codecs are used: calibration is once per cache, and not in it. It is CPU
time of one thread, so that other work on the machine counts little. On a GPU, where both run there, it is wall time.
"""

import argparse
import time
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from pipeline.encoding.unit import UnitEncoder
from pipeline.request.request import make_request
from pipeline.teacher.batching import BatchRule
from pipeline.teacher.head import teacher_head
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from pipeline.work.annotate import annotate_unit
from pipeline.work.job import make_job
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.yaml import load_config

PASSES = 5  # of encoding, whose median counts: one takes a twentieth of the teacher's time, and varies more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--samples", type=int, default=260)
    arguments = parser.parse_args()
    config = load_config(arguments.config, ExtractionConfig, [])
    request, cache = make_request(config), config.output.absolute()
    samples = list(islice(request.corpus, arguments.samples))
    annotated = annotate_unit(make_job(request, cache), 0, samples).samples
    folders, wanted = request.folders, WantedStates.of_cache(request.manifest)
    teacher = Teacher(config.teacher, wanted, folders.model, folders.adapter)
    clock = time.perf_counter if teacher.device.type == "cuda" else time.process_time
    rule = BatchRule.of(config)
    teacher.run(annotated[:4], rule, lambda samples, tokens: None)  # proofs of the first batch
    began = clock()
    arrays = teacher.run(annotated, rule, lambda samples, tokens: None)
    ran = clock()
    encoder = UnitEncoder(cache, request.manifest, teacher_head(teacher), teacher.device)
    packed, passes = teacher.pack(arrays)[0], list[float]()
    for _ in range(PASSES):
        loaded = clock()
        encoder.encode(packed)
        if teacher.device.type == "cuda":
            torch.cuda.synchronize()
        passes.append(clock() - loaded)
    tokens = sum(len(sample.token_ids) for sample in annotated)
    forward, encoding = ran - began, median(passes)
    print(
        f"{tokens:,} tokens: forward {1e6 * forward / tokens:.0f} us per token, encoding {1e6 * encoding / tokens:.0f}"
    )
    print(f"encoding adds {encoding / forward:.1%}")


if __name__ == "__main__":
    main()
