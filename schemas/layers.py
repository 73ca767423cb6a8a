"""Choosing layers. `hidden_states[l]` follows transformers: 0 is the embedding output, L is after the final norm."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.bounds import MOST_LAYERS
from schemas.errors import ConfigError
from schemas.strict import Strict

Layer = Annotated[int, Field(ge=-MOST_LAYERS, le=MOST_LAYERS)] | Literal["last"]


class Top(Strict):
    """`k` layers strided evenly from the top: of 12 layers, `top: 3` is 6, 9 and 12 (MTA, section 3)."""

    top: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    """How many layers, counted down from the last in equal strides."""


LayerSelection = list[Layer] | Top


def resolve_layer(layer: Layer, num_layers: int, field: str) -> int:
    """The index in 0..num_layers that `layer` names; negative indices count from the end, so -1 is the last.

    Raises ConfigError naming `field` if there is no such layer.
    """
    index = num_layers if layer == "last" else layer
    if index < 0:
        index += num_layers + 1
    if not 0 <= index <= num_layers:
        raise ConfigError(
            f"{field}: there is no layer {layer}; the model has layers 0 (embeddings) to {num_layers} (the last)"
        )
    return index


def resolve_layers(selection: LayerSelection, num_layers: int, field: str) -> tuple[int, ...]:
    """The chosen layers as ascending indices without repeats. Raises ConfigError naming `field`."""
    if isinstance(selection, Top):
        if selection.top > num_layers:
            raise ConfigError(f"{field}: top {selection.top} of a model with only {num_layers} layers")
        # MTA takes 6, 9, 12 of 12: the stride that would also leave room for one layer below the lowest.
        stride = max(1, num_layers // (selection.top + 1))
        return tuple(num_layers - stride * k for k in reversed(range(selection.top)))
    return tuple(sorted({resolve_layer(layer, num_layers, field) for layer in selection}))


def matching_layer(layer: int, num_student: int, num_teacher: int) -> int:
    """phi(l) = round(l * L_T / L_S): the teacher layer at the same relative depth (MTA, section 3)."""
    return round(layer * num_teacher / num_student)
