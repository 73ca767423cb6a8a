"""Losses over a cache that keeps rows of targets alone: they learn what they learn of all rows, or refuse in words."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schemas.cache.reader import Cache
from schemas.cache.token_rows import row_positions
from schemas.configs.losses.base import WeightedLoss
from schemas.errors import RunError
from tests import several_targets
from tests.caches import build_cache, extraction
from tests.encoded import encode_cache
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from tests.trainer.live import loss_and_gradients, setting
from tests.trainer.objectives.answers import with_answers
from tests.trainer.objectives.every import EVERY, ONE_TOKENIZER
from trainer.data.batch import Batch
from trainer.data.encoded_states import EncodedStates
from trainer.data.teacher_states import SparseLogits, SparseTeacher, TeacherHidden

POSITIONS = [0, 4, 5, 13, 22, 34, 51, 54]  # of every third text no prompt, half of it, all but the last word
# What reads every token by its definition, and what a user may set to make it read targets alone.
EVERYWHERE = {
    "mta": "or set mta.scope: response and mta.token_weights: uniform",
    "fdd, positions: text": "or set fdd.positions: response",
}
NARROW: dict[str, list[dict[str, Any]]] = {
    f"mta, {pairs}": [{"loss": "mta", "scope": "response", "token_weights": "uniform", "hid_pairs": pairs}]
    for pairs in ("token", "word")
}


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    """Of one teacher: all rows, rows of targets, and both with their hidden states in fp8, or with several targets."""
    folder = tmp_path_factory.mktemp("rows")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records()), encoding="utf-8")
    found: dict[str, Cache] = {}
    for rows in ("all", "targets"):
        states = {"rows": rows, "top_k": {"k": 6}, "sampled": {"draws": 8}}
        given = {"states": states, "teacher": {"keep_embeddings": True}}
        raw = build_cache(extraction(folder / rows, folder / "teacher", corpus, **given))
        found[rows] = Cache(raw)
        found[f"{rows}, fp8"] = Cache(encode_cache(raw, folder / f"{rows}-fp8", "fp8"))
        several = extraction(folder / f"{rows}-several", folder / "teacher", corpus, **given)
        found[f"{rows}, several"] = Cache(build_cache(several, several_targets.annotate))
    return found


def records() -> Iterator[dict[str, str]]:
    for number, text in enumerate(TEXTS):
        words = text.split(" ")
        cut = len(" ".join(words[: [0, len(words) // 2, len(words) - 1][number % 3]]))
        yield {"id": f"s{number}", "prompt": text[:cut], "text": text[cut:]}


def reads_everywhere(name: str) -> str | None:
    """What a user is told to set instead; None of a loss that reads targets alone."""
    return next((said for start, said in EVERYWHERE.items() if name == start or name.startswith(f"{start},")), None)


def plant(batch: Batch, cache: Cache) -> Batch:
    """NaN in every row that the cache does not keep; and a token that no teacher has."""
    answers: dict[Any, Any] = {}
    for request, answer in batch.answers.items():
        if isinstance(request, TeacherHidden) and isinstance(answer, Tensor):
            answers[request] = spoilt(answer, cache)
        elif isinstance(request, SparseTeacher):
            answers[request] = SparseLogits(answer.ids_BTn, spoilt(answer.values_BTn, cache))
    return with_answers(batch, answers)


def spoilt(states_BTx: Tensor, cache: Cache) -> Tensor:
    found = states_BTx.clone()
    for row, position in enumerate(POSITIONS):
        sample = cache.sample(position)
        without = np.setdiff1d(np.arange(len(sample.token_ids)), row_positions(sample.token_rows))
        assert not found[row, without].any()
        found[row, without] = torch.nan
    return found


def as_dicts(configs: Sequence[WeightedLoss]) -> list[dict[str, Any]]:
    return [config.model_dump() for config in configs]


OBJECTIVES = {name: as_dicts(configs) for name, configs in EVERY.items()} | NARROW
SETTINGS = [
    (name, cross)
    for name in OBJECTIVES
    for cross in (False, True)
    if not (cross and (name in ONE_TOKENIZER or "hid_pairs: token" in name or name == "mta, token"))
]


@pytest.mark.parametrize(
    ("name", "cross", "of"),
    [
        (name, cross, of)
        for name, cross in SETTINGS
        for of in ("", ", several" if cross or name in ONE_TOKENIZER else ", fp8")
    ],
)
def test_what_is_learnt_is_that_of_all_rows(
    caches: dict[str, Cache], monkeypatch: pytest.MonkeyPatch, name: str, cross: bool, of: str
) -> None:
    part = caches[f"targets{of}"]
    if (otherwise := reads_everywhere(name)) is not None and name not in NARROW:
        with pytest.raises(RunError, match=re.escape(otherwise)):
            setting(part, OBJECTIVES[name], cross, POSITIONS)
        return
    inner = EncodedStates.decode

    def decode(states: EncodedStates, *arguments: Any) -> Tensor:
        found = inner(states, *arguments)
        return spoilt(found, part) if states.array[0] == "hidden" and len(states.place_N) < whole_rows else found

    wanted = measure(caches[f"all{of}"], name, cross)
    whole_rows = sum(len(part.sample(position).token_ids) for position in POSITIONS)
    monkeypatch.setattr(EncodedStates, "decode", decode)
    found = measure(part, name, cross)
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    assert len(found[1]) == len(wanted[1])
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        assert theirs.norm() > 0 and (mine - theirs).norm() <= 1e-6 * theirs.norm()


def measure(cache: Cache, name: str, cross: bool) -> tuple[float, list[Tensor]]:
    model, _, objective, batch = setting(cache, OBJECTIVES[name], cross, POSITIONS)
    return loss_and_gradients(model, objective, batch if cache.manifest.rows == "all" else plant(batch, cache))


def test_most_losses_read_targets_alone() -> None:
    """And all of the registry are asked."""
    refused = {name.partition(",")[0] for name in OBJECTIVES if reads_everywhere(name)}
    assert refused == {"mta", "fdd"}
    assert {name.partition(",")[0].partition(" ")[0] for name in OBJECTIVES} >= {"kd", "sra", "alm", "uld", "mined"}


def test_a_loss_that_needs_every_token_names_loss_layer_and_way_out(caches: dict[str, Cache]) -> None:
    with pytest.raises(RunError) as refused:
        setting(caches["targets"], [{"loss": "kd"}, {"loss": "mta", "student_layers": [3]}], False)
    assert str(refused.value) == (
        "mta reads the teacher's hidden states of layer 3 at every token, and this cache keeps rows of targets and the "
        "tokens before them alone. Extract into a new output with states.rows: all, or set mta.scope: response and "
        "mta.token_weights: uniform"
    )


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if reads_everywhere(name) and name not in NARROW])
def test_what_is_refused_would_have_read_what_is_not_there(
    caches: dict[str, Cache], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("trainer.objectives.objective._require_rows", lambda loss, manifest: None)
    wanted, found = (measure(caches[rows], name, cross=False)[0] for rows in ("all", "targets"))
    assert not abs(found - wanted) <= 1e-5 * abs(wanted)  # another value, or none
