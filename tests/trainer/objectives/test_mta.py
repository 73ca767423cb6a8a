"""MTA under every switch against the triple loops of naive.py: value and gradient."""

from typing import Any

import pytest
import torch

from schemas.configs.losses.mta import MTAConfig
from schemas.layers import Top
from tests.trainer.objectives import naive
from tests.trainer.objectives.matches import DTYPES, assert_matches
from tests.trainer.objectives.world import (
    L_S,
    L_T,
    SEEDS,
    make_context,
)
from trainer.data.batch import Batch
from trainer.data.tied_tokens import Spans
from trainer.student.states import StudentStates

# Student layers and the teacher layers that follow: round(l * 9 / 6), Python's rounding to even.
STRIDED = {1: ([6], [9]), 2: ([4, 6], [6, 9]), 3: ([4, 5, 6], [6, 8, 9]), 5: ([2, 3, 4, 5, 6], [3, 4, 6, 8, 9])}


MTA_SWITCHES = {
    "default": {},
    "weights": {"weight": 0.5, "dsa": 3.0, "hid": 0.3},
    "dsa alone": {"hid": 0},
    "hid alone": {"dsa": 0},
    "M = 1": {"student_layers": Top(top=1)},
    "M = 2": {"student_layers": Top(top=2)},
    "M = 5": {"student_layers": Top(top=5)},
    "all at word level": {"word_layers": 3},
    "all at phrase level": {"word_layers": 0},
    "noun phrases": {"phrases": ["noun"]},
    "uniform token weights": {"token_weights": "uniform"},
    "over the batch": {"normalise": "batch"},
    "mean over layers": {"hid_reduction": "mean"},
    "words": {"hid_pairs": "word"},
    "words over the batch": {"hid_pairs": "word", "normalise": "batch", "hid_reduction": "mean"},
    "response": {"scope": "response"},
    "chosen layers": {"student_layers": [0, -1], "teacher_layers": [0, "last"], "word_layers": 1},
}


SAME_ONLY = {
    "tokens": {"hid_pairs": "token"},
    "teacher's weights": {"pooling_weights": "teacher"},
    "teacher's weights, words": {"pooling_weights": "teacher", "hid_pairs": "word"},
    "hid alone, teacher's weights": {"pooling_weights": "teacher", "dsa": 0, "token_weights": "uniform"},
}


@DTYPES
@pytest.mark.parametrize("switches", (MTA_SWITCHES | SAME_ONLY).values(), ids=MTA_SWITCHES | SAME_ONLY)
def test_mta_with_one_tokenizer(switches: dict[str, Any], dtype: torch.dtype) -> None:
    for seed in SEEDS[dtype]:
        assert_mta(MTAConfig(**switches), seed, dtype, same=True)


@pytest.mark.parametrize("switches", MTA_SWITCHES.values(), ids=MTA_SWITCHES)
def test_mta_across_tokenizers(switches: dict[str, Any]) -> None:
    assert_mta(MTAConfig(**switches), 5, torch.float64, same=False)


def assert_mta(config: Any, seed: int, dtype: torch.dtype, same: bool) -> None:
    if isinstance(config.student_layers, Top):
        layers = list(zip(*STRIDED[config.student_layers.top], strict=True))
    else:
        layers = [(0, 0), (L_S, L_T)]
    num_words = config.word_layers if config.word_layers is not None else len(layers) // 3
    word, phrase = Spans("word", config.scope), Spans("phrase", config.scope, tuple(sorted(config.phrases)))
    by_token = same and config.hid_pairs != "word"

    def truth(loss: Any, student: StudentStates, batch: Batch) -> Any:
        key_layers = [
            (
                s,
                t,
                batch.answers.get(word if i < num_words else phrase, batch.answers.get(word)),
                batch.answers.get(word),
            )
            for i, (s, t) in enumerate(layers)
        ]
        return naive.mta(student, batch, config, key_layers, loss.projections, by_token)

    terms = assert_matches(config, make_context(seed, same=same), seed, dtype, truth, same=same)
    assert set(terms) == {name for name in ("dsa", "hid") if getattr(config, name) > 0}
