"""Layer selections against the papers' own examples."""

import pytest

from schemas.errors import ConfigError
from schemas.layers import Top, matching_layer, resolve_layer, resolve_layers


def test_mta_key_layers_of_gpt2() -> None:
    assert resolve_layers(Top(top=3), 12, "layers") == (6, 9, 12)


@pytest.mark.parametrize(
    ("top", "layers", "chosen"),
    [(1, 12, (12,)), (5, 12, (4, 6, 8, 10, 12)), (3, 3, (1, 2, 3)), (2, 5, (4, 5)), (3, 24, (12, 18, 24))],
)
def test_strides_from_the_top(top: int, layers: int, chosen: tuple[int, ...]) -> None:
    assert resolve_layers(Top(top=top), layers, "layers") == chosen


def test_indices_negatives_and_last_are_one_set() -> None:
    assert resolve_layers([0, -1, "last", 4, -2], 5, "layers") == (0, 4, 5)


@pytest.mark.parametrize("layer", [6, -7])
def test_a_layer_that_is_not_there_is_named(layer: int) -> None:
    with pytest.raises(ConfigError, match=rf"states\.hidden: there is no layer {layer}"):
        resolve_layer(layer, 5, "states.hidden")


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="top 4 of a model with only 3 layers"):
        resolve_layers(Top(top=4), 3, "x")


def test_matching_layer_is_the_papers_phi() -> None:
    assert [matching_layer(layer, 3, 5) for layer in (1, 2, 3)] == [2, 3, 5]
    assert [matching_layer(layer, 12, 48) for layer in (6, 9, 12)] == [24, 36, 48]
