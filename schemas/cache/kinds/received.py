"""Received mass of chosen layers: how much attention each token receives, averaged over heads and all tokens."""

from pydantic import Field

from schemas.cache.kinds.mass import TokenMass
from schemas.layers import LayerSelection


class ReceivedMass(TokenMass):
    """[tokens] of each layer, summing to 1 over a sample; of an encoder, the same as its token masses.

    In a causal model, early tokens are seen by more: the first of T is received by T of them, and the last by itself.
    """

    name = "received"
    order = 5
    field = (
        LayerSelection,
        Field([], description="Layers of which it is kept how much attention each token receives, of all others."),
    )


KIND = ReceivedMass()
