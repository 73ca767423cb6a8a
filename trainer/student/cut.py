"""A student cut from a model's own layers, the usual start of depth pruning (ShortGPT, arXiv 2403.03853).

The cut model is built from a config of fewer layers, as it will be whenever it is loaded, and takes the weights that
stay. Layers are counted here from 0, as config files and papers of depth pruning count blocks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from schemas.errors import ModelError
from schemas.models.files import brief
from schemas.models.forward import forward_errors, unchanged
from schemas.models.token_mass import find_blocks

TOLERANCE = 1e-4  # of a layer's largest output
_WAY_OUT = "it cannot be cut by `keep_layers`; take the whole model"


def cut_layers(model: Any, keep: Sequence[int]) -> Any:
    """A new model of only the layers `keep` of `model`, numbers that rise; all other weights are the same.

    Raises ModelError: there is no such layer, the layers cannot be told apart or built without the others, or one of
    them does not compute in the cut model what it computes in the whole one.
    """
    blocks = find_blocks(model)
    if keep[-1] >= len(blocks):
        raise ModelError(
            f"student.keep_layers: there is no layer {keep[-1]}; the model has layers 0 to {len(blocks) - 1}"
        )
    prefix = next(name for name, module in model.named_modules() if module is blocks)
    # A model's own code checks its config and builds it: it may raise anything, which is passed on, named.
    try:
        cut = type(model)(_cut_config(model.config, len(blocks), keep))
        cut.load_state_dict(_cut_weights(model.state_dict(), f"{prefix}.", keep))
    except Exception as error:
        raise ModelError(f"{type(model).__name__} of layers {list(keep)}: {brief(error)}; {_WAY_OUT}") from error
    cut.tie_weights()
    cut.generation_config = deepcopy(getattr(model, "generation_config", None))
    _prove(model, cut, keep)
    return cut


def _cut_config(config: PreTrainedConfig, depth: int, keep: Sequence[int]) -> PreTrainedConfig:
    """Also cuts lists of one entry per layer, whose names speak of layers in every config of transformers."""
    cut = deepcopy(config)
    text = cut.get_text_config()
    for name, value in vars(text).items():
        if "layer" in name and isinstance(value, list | tuple) and len(value) == depth:
            setattr(text, name, [value[layer] for layer in keep])
    text.num_hidden_layers = len(keep)
    return cut


def _cut_weights(weights: dict[str, Tensor], prefix: str, keep: Sequence[int]) -> dict[str, Tensor]:
    places = {str(layer): place for place, layer in enumerate(keep)}
    kept = {}
    for name, value in weights.items():
        if not name.startswith(prefix):
            kept[name] = value
            continue
        layer, rest = name.removeprefix(prefix).split(".", 1)
        if layer in places:
            kept[f"{prefix}{places[layer]}.{rest}"] = value
    return kept


@torch.no_grad()
def _prove(model: Any, cut: Any, keep: Sequence[int]) -> None:
    """Every kept layer, given what it gets in the whole model, puts out what it puts out there."""
    ids_1S = torch.arange(8)[None] % model.get_input_embeddings().num_embeddings
    whole, kept = find_blocks(model), find_blocks(cut)
    got: dict[int, Tensor] = {}
    given: dict[int, Tensor] = {}
    with unchanged(model), unchanged(cut), forward_errors(cut, f"with layers {list(keep)} alone; {_WAY_OUT}"):
        with _watched([whole[layer] for layer in keep], given, got):
            model(input_ids=ids_1S, use_cache=False)
        wanted = dict(got)
        with _fed(kept, given), _watched(kept, {}, got):
            cut(input_ids=ids_1S, use_cache=False)
    for place, layer in enumerate(keep):
        if not torch.allclose(got[place], wanted[place], rtol=0, atol=TOLERANCE * float(wanted[place].abs().max())):
            raise ModelError(
                f"layer {layer} of {type(model).__name__} computes something else as layer {place} of the cut model: "
                f"{_WAY_OUT}"
            )


@contextmanager
def _watched(
    blocks: Sequence[nn.Module] | nn.ModuleList, given: dict[int, Tensor], got: dict[int, Tensor]
) -> Iterator[None]:
    """Note what each block is given and puts out, by its place."""

    def note(place: int, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given[place] = (args[0] if args else kwargs["hidden_states"]).clone()
        got[place] = (output[0] if isinstance(output, tuple) else output).clone()

    def hook(place: int) -> Any:
        return lambda module, args, kwargs, output: note(place, args, kwargs, output)

    handles = [block.register_forward_hook(hook(place), with_kwargs=True) for place, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _fed(blocks: nn.ModuleList, given: dict[int, Tensor]) -> Iterator[None]:
    """Give each block the states of its place instead of what comes from below."""

    def feed(place: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (given[place], *args[1:]), kwargs
        return args, kwargs | {"hidden_states": given[place]}

    def hook(place: int) -> Any:
        return lambda module, args, kwargs: feed(place, args, kwargs)

    handles = [block.register_forward_pre_hook(hook(place), with_kwargs=True) for place, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
