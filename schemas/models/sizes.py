"""What a config.json may make of a machine: sizes that no model has are refused before anything is built of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.bounds import MOST_LAYERS
from schemas.errors import ModelError
from schemas.shown import quoted


def require_countable(stored: dict[str, Any], path: Path) -> None:
    """Raises ModelError if the content of the config.json at `path` counts more layers than any model has.

    Building a million of them takes minutes, and some configs make lists of that length at once.
    """
    for key, value in _integers(stored):
        if "layer" in key and value > MOST_LAYERS:
            raise ModelError(f"{path}: {key} is {quoted(value)}; a model has up to {MOST_LAYERS:,} layers")


def require_layers(config: Any, path: Path) -> None:
    """Raises ModelError if a transformers config, which was read from `path`, has no layer."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers < 1:
        raise ModelError(f"{path} says that the model has {layers} layers; give it as it was saved with the weights")


def require_weights_for(model: Any, weights: list[Path]) -> None:
    """Raises ModelError if a model on the meta device has more weights than its files have bits.

    What does not fit the files would be allocated and made up at random before it is refused.
    """
    needed, held = sum(parameter.numel() for parameter in model.parameters()), sum(p.stat().st_size for p in weights)
    if needed > 8 * held:
        raise ModelError(
            f"{weights[0].parent / 'config.json'} describes a model of {needed:,} weights, and its files have only "
            f"{held:,} bytes; give config.json as it was saved with the weights"
        )


def _integers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _integers(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _integers(item)
    elif isinstance(value, int):
        yield key, value
