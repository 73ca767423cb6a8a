"""Attention of chosen layers: token mass, how much attention the end of a text pays to each of its tokens (SRA, section
3), and whatever else `schemas.models.attention_readings` reads.

The pipeline and the trainer share it, because the teacher's and the student's mass must be one definition.

Reading it from `output_attentions` would materialise [B, H, T, T] in every layer. Instead the model is switched to an
attention function that calls SDPA as before and, in the chosen layers of a forward pass inside `collect_token_mass`,
also computes the one row that is wanted: O(T) more, about 1.00-1.02 of SDPA's time at T = 1024. Mass *received* needs
all rows, in blocks: it makes a layer 1.1-1.3 times as slow at T = 128, 1.7-2.6 times at 1024 (CPU, 256-768 wide).
Maps need all rows, too, and the memory of what they give. Outside the context nothing is added. A model that cannot use
SDPA (Gemma 2, GPT-OSS: soft-capped scores or sinks) keeps its own eager attention, and its weights are read from that.

Layers are numbered as hidden_states: layer l is block l, the one that puts out hidden_states[l].

Shapes: B samples, T tokens, H heads, D width of a head.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from schemas.errors import ModelError
from schemas.models.attention_readings import Reading, read_attention
from schemas.models.attention_rows import Scores, Weights

Mode = Literal["last", "received"]

_SDPA, _EAGER = "token_mass", "token_mass_eager"
_SITE = "_token_mass_site"  # on every module of a block: the model's class and the block's layer


@dataclass
class _Collector:
    """What is read of one forward pass, as it comes in."""

    layers: Mapping[Reading, Collection[int]]
    mask_BT: Tensor
    causal: bool
    found: dict[tuple[Reading, int], Tensor] = field(default_factory=dict)
    model: str = "the model"  # its class, once an attention was seen

    def readings(self, layer: int) -> list[Reading]:
        """What is to be read of a layer."""
        return [reading for reading, layers in self.layers.items() if layer in layers]

    def add(self, module: nn.Module, source: Weights | Scores) -> None:
        """Read and keep what is wanted of the layer in which `module` stands."""
        T = self.mask_BT.shape[1]
        _, queries, keys = source.shape_HTT
        if (queries, keys) != (T, T):
            raise ModelError(
                f"{type(module).__name__} attends from {queries} to {keys} positions, but the batch has {T}: attention "
                "is read from one whole forward pass over the batch, without a cache"
            )
        _, layer = getattr(module, _SITE)
        home = self.mask_BT.device  # a layer of a spread model may lie elsewhere
        with torch.no_grad(), torch.autocast(source.device.type, enabled=False):
            read = read_attention(source, self.mask_BT.to(source.device), self.readings(layer), self.causal)
        self.found |= {(reading, layer): values.to(home) for reading, values in read.items()}


_active: ContextVar[_Collector | None] = ContextVar("token_mass_collector", default=None)


def find_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The model's L blocks in order. Raises ModelError if it has no list of `num_hidden_layers` modules."""
    num_layers = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return module
    raise ModelError(f"{type(model).__name__} has no list of {num_layers} blocks, so its layers cannot be told apart")


def enable_token_mass(model: PreTrainedModel) -> None:
    """Switch `model` to the attention that `collect_token_mass` can read; its outputs stay the same.

    Raises ModelError if the model's attention cannot be switched: it does not use transformers' AttentionInterface.
    """
    name = type(model).__name__
    if not model._can_set_attn_implementation():
        raise ModelError(
            f"{name} does not use transformers' AttentionInterface, so no token masses can be had from it; "
            "leave them out (`mass: []`), or take another model"
        )
    for layer, block in enumerate(find_blocks(model), start=1):
        for module in block.modules():
            setattr(module, _SITE, (name, layer))
    model.set_attn_implementation(_SDPA if model._supports_sdpa else _EAGER)


@contextmanager
def collect_token_mass(layers: Collection[int], mask_BT: Tensor, mode: Mode) -> Iterator[dict[int, Tensor]]:
    """Collect token masses of the one forward pass inside; read them after the block.

    `mask_BT` is true on real tokens, padding on either side. "last": softmax(q_last K^T) summed over heads, where last
    is the last real token. "received", for encoders: the attention received, summed over heads and real queries. Gives
    layer -> [B, T] float32 without gradient or dropout, 0 on padding, summing to 1 over the real tokens of each sample.

    Raises ModelError, at the end, for a layer that gave none: it has no attention, or not one that `enable_token_mass`
    switched.
    """
    masses: dict[int, Tensor] = {}
    with collect_attention({mode: layers}, mask_BT, causal=mode == "last") as found:
        yield masses
    masses |= {layer: mass_BT for (_, layer), mass_BT in found.items()}


@contextmanager
def collect_attention(
    layers: Mapping[Reading, Collection[int]], mask_BT: Tensor, causal: bool
) -> Iterator[dict[tuple[Reading, int], Tensor]]:
    """The same of any readings, by reading and layer, as `schemas.models.attention_readings` gives them."""
    collector = _Collector(layers, mask_BT.bool(), causal)
    token = _active.set(collector)
    try:
        yield collector.found
    finally:
        _active.reset(token)
    wanted = {(reading, layer) for reading, of_reading in layers.items() for layer in of_reading}
    for layer in sorted({layer for _, layer in wanted - collector.found.keys()}):
        raise ModelError(
            f"layer {layer} of {collector.model} has no token mass: block {layer} computes no attention of its own, "
            "or none that can be read; choose another layer"
        )


@torch.compiler.disable  # which collector is active is not to be compiled in
def sdpa_with_token_mass(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """SDPA as transformers calls it, [B, T, H, D]; it adds the mass to the active collector if that asks for it."""
    collector = _wanted(module)
    if collector is not None:
        causal = kwargs.get("is_causal")
        scores = Scores(
            query_BHTD=query,
            key_BGTD=key,
            mask=attention_mask,
            bias=kwargs.get("position_bias"),
            scaling=query.shape[-1] ** -0.5 if kwargs.get("scaling") is None else kwargs["scaling"],
            # As in SDPA's wrapper: an explicit mask says everything, causality included.
            causal=attention_mask is None and bool(getattr(module, "is_causal", True) if causal is None else causal),
        )
        collector.add(module, scores)
    output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return output


@torch.compiler.disable
def _eager_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise ModelError(f"{type(module).__name__} has no eager attention that token masses could be read from")
    output, weights_BHTT = eager(module, query, key, value, attention_mask, **kwargs)
    collector = _wanted(module)
    if collector is not None:
        undropped = weights_BHTT
        if kwargs.get("dropout"):
            with torch.no_grad():
                undropped = eager(module, query, key, value, attention_mask, **{**kwargs, "dropout": 0.0})[1]
        collector.add(module, Weights(undropped))
    return output, weights_BHTT


AttentionInterface.register(_SDPA, sdpa_with_token_mass)
AttentionMaskInterface.register(_SDPA, sdpa_mask)
AttentionInterface.register(_EAGER, _eager_attention)
AttentionMaskInterface.register(_EAGER, eager_mask)


def _wanted(module: nn.Module) -> _Collector | None:
    """The active collector, if it asks for the layer that `module` stands in."""
    collector = _active.get()
    if collector is None:
        return None
    collector.model, layer = getattr(module, _SITE, (collector.model, None))
    return collector if layer is not None and collector.readings(layer) else None
