"""Every reading of attention, against the maps that transformers' own eager attention returns."""

from typing import Any

import pytest
import torch

import schemas.models.attention_readings as attention_readings
from schemas.cache.row_units import as_square
from schemas.errors import ModelError
from schemas.models.attention_readings import Reading
from schemas.models.token_mass import collect_attention
from tests.schemas.models.attending import CAUSAL, ENCODERS, build, expected, inputs

READINGS: dict[Reading, list[int]] = {"received": [1, 3], "mean": [1, 2, 3], "heads": [1, 2, 3]}
ROUNDING = 3e-6  # of scores of up to 20, whose products sum up in another order
MODELS = ("llama", "qwen2", "mistral", "gpt2", "gemma2", "gemma3", "gpt_oss", *ENCODERS)


def squares(pairs_Px: torch.Tensor, lengths: list[int], causal: bool) -> list[torch.Tensor]:
    counts = [n * (n + 1) // 2 if causal else n * n for n in lengths]
    return [torch.from_numpy(as_square(part.numpy(), causal)) for part in pairs_Px.split(counts)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_readings_are_those_of_eager_attention(name: str, side: str) -> None:
    model, eager = build({**CAUSAL, **ENCODERS}[name])
    batch, causal = inputs(side), name in CAUSAL
    mask_BT = batch["attention_mask"].bool()
    with torch.no_grad():
        wanted = eager(**batch, output_attentions=True).attentions
        with collect_attention(READINGS, mask_BT, causal) as found:
            model(**batch)
    assert set(found) == {(reading, layer) for reading, layers in READINGS.items() for layer in layers}
    lengths = mask_BT.sum(1).tolist()
    for layer in (1, 3):
        received = expected(wanted[layer - 1], mask_BT, "received")
        assert (found["received", layer] - received).abs().max() < 1e-6
    for layer in (1, 2, 3):
        means, heads = (squares(found[reading, layer], lengths, causal) for reading in ("mean", "heads"))
        for b, (mean_TT, map_TTH) in enumerate(zip(means, heads, strict=True)):
            real = mask_BT[b].nonzero()[:, 0]
            own_HTT = wanted[layer - 1][b][:, real][:, :, real]
            assert (map_TTH.permute(2, 0, 1) - own_HTT).abs().max() < ROUNDING
            assert (mean_TT - own_HTT.mean(0)).abs().max() < ROUNDING


def test_without_a_mask_and_in_blocks_of_one_row_they_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a causal teacher is run: padding on the right, and no attention mask."""
    model, _ = build(CAUSAL["gemma3"])
    batch, found = inputs("right"), list[Any]()
    mask_BT = batch["attention_mask"].bool()
    for arguments in (batch, {"input_ids": batch["input_ids"]}):
        with torch.no_grad(), collect_attention(READINGS, mask_BT, True) as read:
            model(**arguments)
        found.append(dict(read))
        monkeypatch.setattr(attention_readings, "_CPU_BLOCK", 1)
    for key, values in found[0].items():
        assert (values - found[1][key]).abs().max() < 1e-6


def test_a_layer_that_lacks_a_reading_is_named() -> None:
    model, _ = build(CAUSAL["llama"])
    batch = inputs("right")
    with pytest.raises(ModelError, match="layer 4 of LlamaForCausalLM"), torch.no_grad():  # noqa: SIM117
        with collect_attention({"mean": [1], "received": [4]}, batch["attention_mask"], True):
            model(**batch)
