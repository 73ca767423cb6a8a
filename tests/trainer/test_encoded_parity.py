"""Losses of an encoded cache are those of states that a naive decoder, in float64, gives of the same bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schemas.cache.ragged import RaggedRows
from schemas.cache.reader import Cache
from schemas.configs.losses.registry import LOSSES
from schemas.models.rvq_file import load_tables
from schemas.models.state_decoder import load_decoders
from tests.caches import build_cache, extraction, write_corpus
from tests.encoded import encode_cache
from tests.schemas.models import naive_row_scaled, naive_rvq
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.live import POSITIONS, assert_equal, build, loss_and_gradients, setting
from tests.trainer.objectives.answers import with_answers
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherFinal, TeacherHidden

ENCODINGS = ("fp8", "int8", "rvq")
OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    **{name: [{"loss": name}] for name, kind in LOSSES.items() if kind.student == "causal" and name != "ce"},
    "kd, reverse": [{"loss": "kd", "divergence": "reverse_kl", "temperature": 2.0}],
    "sra, last layer with a floor": [{"loss": "sra", "mass_floor": 0.01, "teacher_layer": "last"}],
    "sra, inner layers": [{"loss": "sra", "cos_layers": [[1, 1], [3, 3]], "teacher_layer": 2}],
    "all": [{"loss": "ce"}, {"loss": "kd"}, {"loss": "sra"}, {"loss": "mta"}],
}
ONE_TOKENIZER = ("kd", "fdd", "all")


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    folder = tmp_path_factory.mktemp("encoded")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    corpus = write_corpus(folder / "corpus.jsonl")
    keep = {"keep_embeddings": True}
    raw = build_cache(extraction(folder / "cache", folder / "teacher", corpus, teacher=keep))
    return {encoding: Cache(encode_cache(raw, folder / encoding, encoding, worst=0.1)) for encoding in ENCODINGS}


def naive_states(cache: Cache, layer: int, shape: tuple[int, ...]) -> Tensor:
    """[B, T, d] float32 of what was decoded in float64."""
    array = cache.array("hidden", layer)
    states = torch.zeros(*shape, array.width or 1)
    for row, position in enumerate(POSITIONS):
        stored = cache.states(position, [array])[0]
        if isinstance(stored, RaggedRows):
            tables = load_tables(cache.path, array)
            decoded = naive_rvq.decode(
                tables, torch.from_numpy(stored.data), torch.from_numpy(stored.sizes.astype(int))
            )
        else:
            decoded = naive_row_scaled.decode(array.encoding, np.asarray(stored))
        states[row, : len(decoded)] = torch.from_numpy(decoded).float()
    return states


def naive_answers(cache: Cache, batch: Batch) -> Mapping[Any, Tensor]:
    shape = tuple(batch.teacher_tokens_BT.shape)
    asked = [request for request in batch.answers if isinstance(request, TeacherHidden | TeacherFinal)]
    return {TeacherHidden(request.layer): naive_states(cache, request.layer, shape) for request in asked}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("name", "cross"),
    [(name, cross) for name in OBJECTIVES for cross in (False, True) if not (cross and name.startswith(ONE_TOKENIZER))],
)
def test_losses_are_those_of_naively_decoded_states(
    caches: dict[str, Cache], encoding: str, name: str, cross: bool
) -> None:
    cache = caches[encoding]
    model, context, objective, batch = setting(cache, OBJECTIVES[name], cross)
    assert context.decoders.keys() == load_decoders(cache.path, cache.manifest).keys() != set()
    plain = build(OBJECTIVES[name], context.without_decoders())
    plain.load_state_dict(objective.state_dict())
    learners = 1 + bool(list(objective.parameters()))
    found = loss_and_gradients(model, objective, batch)
    wanted = loss_and_gradients(model, plain, with_answers(batch, naive_answers(cache, batch)))
    assert_equal(found, wanted, learners)


def test_final_states_of_rvq_are_read_as_coordinates(caches: dict[str, Cache]) -> None:
    for encoding, cache in caches.items():
        _, context, objective, _ = setting(cache, [{"loss": "kd"}], False)
        folded = TeacherFinal(3) in objective.of_batch
        assert folded == (encoding == "rvq") == (TeacherHidden(3) not in objective.of_batch)
        assert (context.final_head is context.head) == (not folded)


def test_some_rows_are_raw(caches: dict[str, Cache]) -> None:
    """So that losses are compared over both kinds of rows."""
    cache = caches["rvq"]
    array = cache.array("hidden", 3)
    sizes = np.concatenate([cache.states(position, [array])[0].sizes for position in POSITIONS])
    assert 0 < (sizes == 64).mean() < 0.5
