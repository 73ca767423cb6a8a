"""Whole training steps at a vocabulary of 152,000 and 8,192 tokens, from a cache of a teacher of that vocabulary.

    python -m tests.gpu full_size

Teacher and student are of the shape of Qwen2.5-0.5B with random weights; the teacher is run here, over a few texts.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.memory import WIDTH, make_student
from tests.caches import build_cache
from tests.gpu.models import extraction_config, training_config
from tests.gpu.steps import loop_of, median_step
from tests.tiny import tiny_tokenizer

OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "ce": [{"loss": "ce"}],
    "kd": [{"loss": "ce", "weight": 0.5}, {"loss": "kd", "weight": 0.5}],
    "sra": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}],
    "mta": [{"loss": "ce"}, {"loss": "mta", "teacher_layers": [12, 18, 24], "student_layers": [6, 9, 12]}],
}
VOCABULARY, LAYERS, STUDENT_LAYERS = 151_936, 24, 12


def check_full_size(folder: Path) -> Iterator[tuple[str, str]]:
    """Milliseconds of a step of 32 x 256 tokens, with loader and optimiser, ÷ cross-entropy's; and its peak."""
    yield from measure(folder, "cuda", VOCABULARY, LAYERS, STUDENT_LAYERS, 32)


def measure(
    folder: Path, device: str, vocabulary: int, layers: int, student_layers: int, samples: int
) -> Iterator[tuple[str, str]]:
    """The same on either device."""
    torch.manual_seed(0)
    make_student(layers, vocabulary).to(torch.bfloat16).save_pretrained(folder / "full-size-teacher")
    tiny_tokenizer(folder / "full-size-teacher", "bytelevel", vocab=400)
    config = extraction_config(folder, "full-size", device, dtype="bfloat16", stored="bfloat16")
    states = config.states.model_copy(update={"hidden": (layers // 2, 3 * layers // 4, layers), "mass": (layers,)})
    teacher = config.teacher.model_copy(update={"model": str(folder / "full-size-teacher")})
    cache = build_cache(config.model_copy(update={"teacher": teacher, "states": states}))
    size = {"hidden_size": WIDTH, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}
    architecture = {"model_type": "qwen2", "vocab_size": vocabulary, "num_hidden_layers": student_layers, **size}
    usual = 0.0
    for name, objective in OBJECTIVES.items():
        student = {"architecture": architecture | {"tie_word_embeddings": True}, "tokenizer": "teacher"}
        settings: dict[str, Any] = {"student": student, "cache": cache, "batch_size": samples, "device": device}
        loop = loop_of(training_config(folder, f"full-size-{name}", objective, **settings), 100)
        seconds, peak = median_step(loop)
        usual = usual or seconds
        yield f"{name}: a whole step, ÷ ce; peak", f"{1000 * seconds:.0f} ms, {seconds / usual:.2f}; {peak:.1f} GiB"
        loop.close()
        del loop
        if device == "cuda":
            torch.cuda.empty_cache()
