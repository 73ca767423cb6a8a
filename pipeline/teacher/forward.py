"""One forward pass of a teacher: the hidden states and the attention of chosen layers.

Padding stands on the right; a causal model gets no attention mask, because what is real never sees what is not, and
attention without a mask takes the fastest kernels. `output_hidden_states` would keep all L + 1 layers alive until the
end of the pass; hooks keep only what is asked for. What a hook finds is proven against the shape of the ids, because a
block may work on other shapes than its model gives out.

Shapes: B samples, T tokens, d hidden size.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.teacher.experts import choosing
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ModelError
from schemas.models.attention_readings import Reading
from schemas.models.forward import forward_errors
from schemas.models.spread import main_device
from schemas.models.token_mass import collect_attention, find_blocks


@dataclass(frozen=True)
class TeacherForward:
    """Runs `model` and collects the layers asked for, and the last."""

    model: Any
    record: TeacherRecord
    hidden_layers: Sequence[int]
    mass_layers: Sequence[int]
    attention_layers: Mapping[Reading, Collection[int]] = field(default_factory=dict)

    @property
    def reads_attention(self) -> bool:
        """Whether the model must be switched to an attention that can be read."""
        return bool(self.mass_layers) or any(self.attention_layers.values())

    def __call__(
        self, ids_BT: Tensor, mask_BT: Tensor
    ) -> tuple[dict[int, Tensor], dict[int, Tensor], dict[tuple[Reading, int], Tensor]]:
        """Hidden states [B, T, d] by layer, token masses [B, T] by layer, and what else is read of attention, by
        reading and layer, on the teacher's device.

        Positions are left to the model. It counts them from the left, where the text begins, and each in its own way:
        RoBERTa's first position is 2. Raises ModelError: the model cannot be run, or gives states of another shape.
        """
        device = main_device(self.model)
        ids_BT, mask_BT = ids_BT.to(device), mask_BT.to(device)
        causal = self.record.kind == "causal"
        mode: Reading = "last" if causal else "received"
        arguments = {"use_cache": False} if causal else {"attention_mask": mask_BT.long()}
        model = find_body(self.model) if causal else self.model
        readings = {name: set(layers) for name, layers in self.attention_layers.items()}
        readings[mode] = readings.get(mode, set()) | set(self.mass_layers)
        collecting: Any = collect_attention(readings, mask_BT, causal) if self.reads_attention else nullcontext({})
        doing = "over a batch of {} × {} tokens".format(*ids_BT.shape)
        with (
            forward_errors(self.model, doing),
            torch.inference_mode(),
            choosing(),
            self._hooks() as hidden,
            collecting as found,
        ):
            hidden[self.record.num_layers] = model(input_ids=ids_BT, **arguments).last_hidden_state
        for layer in self.hidden_layers:
            self._require_shape(layer, hidden.get(layer), ids_BT)
        hidden = {layer: state_BTd.to(device) for layer, state_BTd in hidden.items()}  # from wherever a layer lies
        return hidden, {layer: found[mode, layer] for layer in self.mass_layers}, found

    def _require_shape(self, layer: int, state_BTd: Tensor | None, ids_BT: Tensor) -> None:
        if state_BTd is None:
            raise ModelError(f"{type(self.model).__name__} does not run its block {layer}; choose another layer")
        wanted = [*ids_BT.shape, self.record.hidden_size]
        if list(state_BTd.shape) != wanted:
            raise ModelError(
                f"inside its blocks, layer {layer} of {type(self.model).__name__} has the shape {list(state_BTd.shape)}"
                f" where {wanted} is needed for a batch of {wanted[0]} × {wanted[1]} tokens: its rows cannot be told "
                "apart; choose the layer 'last'"
            )

    @contextmanager
    def _hooks(self) -> Iterator[dict[int, Tensor]]:
        """Collect hidden_states[l] of the pass inside, for every l except the last, which follows the final norm."""
        states: dict[int, Tensor] = {}
        with ExitStack() as hooks:
            for layer in self.hidden_layers:
                if layer < self.record.num_layers:
                    hooks.callback(_hook(find_blocks(self.model), layer, states).remove)
            yield states


def find_body(model: Any) -> Any:
    """The model without its head. Llama 4 names a part that its text model does not have, and so calls itself that.

    Raises ModelError if it has none.
    """
    body = model.base_model if model.base_model is not model else getattr(model, "model", None)
    if body is None:
        raise ModelError(f"{type(model).__name__} has no body apart from its head; it cannot be a teacher")
    return body


def pad(token_ids: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """ids and mask [B, T], padded on the right. Any padding token will do, because it is never seen."""
    ids_BT = np.zeros((len(token_ids), max(map(len, token_ids))), np.int64)
    mask_BT = np.zeros(ids_BT.shape, bool)
    for row, ids in enumerate(token_ids):
        ids_BT[row, : len(ids)], mask_BT[row, : len(ids)] = ids, True
    return torch.from_numpy(ids_BT), torch.from_numpy(mask_BT)


def _hook(blocks: Any, layer: int, states: dict[int, Tensor]) -> Any:
    if layer == 0:
        return blocks[0].register_forward_pre_hook(_keep_input(states), with_kwargs=True)
    return blocks[layer - 1].register_forward_hook(_keep_output(states, layer))


def _keep_input(states: dict[int, Tensor]) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
    def hook(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        states[0] = arguments[0] if arguments else keywords["hidden_states"]

    return hook


def _keep_output(states: dict[int, Tensor], layer: int) -> Callable[[Any, Any, Any], None]:
    def hook(module: Any, arguments: Any, output: Any) -> None:
        states[layer] = output if isinstance(output, Tensor) else output[0]  # of a tuple, or, in GPT-1, a list

    return hook
