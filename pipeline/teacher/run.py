"""The teacher at work: samples in, the states of every kind asked for out.

Only the chosen layers are kept, and the LM head is computed only for kinds that are made from logits (otherwise 10-25 %
of a small model's time is saved). Padding stands on the right; a causal model gets no attention mask, because what is
real never sees what is not, and attention without a mask takes the fastest kernels. Memory: the weights, one batch's
activations, and the arrays of the unit.

Shapes: B samples, T tokens, N real tokens of a batch, d hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.batching import batches
from pipeline.teacher.check import check_head, check_saved, check_states, run_alone
from pipeline.teacher.load import load_teacher
from pipeline.teacher.logits import LogitStates
from pipeline.teacher.maker import BatchStates, LogitsMaker, StatesMaker, build_makers
from pipeline.teacher.record import find_embedding
from pipeline.teacher.wanted import WantedStates
from schemas.cache.arrays import ArrayRecord
from schemas.cache.dtypes import STORED
from schemas.cache.teacher import TeacherRecord
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError
from schemas.models.logits import find_head
from schemas.models.token_mass import Mode, collect_token_mass, enable_token_mass, find_blocks


class Teacher:
    """A loaded and checked teacher. `record` says what it is, `arrays` what `run` gives."""

    def __init__(self, config: TeacherConfig, wanted: WantedStates, folder: Path, adapter: Path | None):
        """Raises ModelError for a model that cannot be loaded, is not what `wanted` says, or cannot give it."""
        self.config, self.folder = config, folder
        self.record, self.arrays = wanted.teacher, list(wanted.arrays)
        makers = list(build_makers(wanted.arrays, wanted.records))
        self._makers = [maker for maker in makers if isinstance(maker, StatesMaker)]
        self._hidden = sorted({layer for maker in makers for layer in maker.hidden_layers})
        self._mass = sorted({layer for maker in makers for layer in maker.mass_layers})
        torch.set_num_threads(config.threads)
        self._model = load_teacher(config, folder, adapter)
        references = run_alone(self._model, self.record)
        if self._mass:
            enable_token_mass(self._model)
        check_states(lambda ids_BT, mask_BT: self._forward(ids_BT, mask_BT)[0], references, config)
        if self.record.head is not None:
            check_head(self._model, references, self.record.head)
        final = [a for a in self.arrays if a.kind == "hidden" and a.layer == self.record.num_layers]
        self._unproven = final if self.record.head is not None else []  # until the first batch
        self._logits = self._logit_states([maker for maker in makers if isinstance(maker, LogitsMaker)])

    def _logit_states(self, makers: list[LogitsMaker]) -> LogitStates | None:
        if not makers:
            return None
        if self.record.head is None:
            raise ModelError(f"states.{makers[0].name} needs next-token logits, which no encoder has")
        return LogitStates(*self.head(), self.record.head, makers)

    def head(self) -> tuple[Tensor, Tensor | None]:
        """W_U [V, d] and its bias [V], in the compute dtype. Raises ModelError for an encoder."""
        return find_head(self._model)

    def embedding(self) -> Tensor:
        """The input embeddings [V, d], in the compute dtype."""
        return find_embedding(self._model)

    def run(
        self, samples: Sequence[AnnotatedSample], batch_tokens: int, on_batch: Callable[[int, int], None]
    ) -> dict[str, np.ndarray]:
        """Arrays by `ArrayRecord.path` in their stored dtype; rows are samples, or their tokens end to end, in order.

        `on_batch(samples, tokens)` is told of every batch done. Raises ModelError naming sample and layer for a state
        that is not finite, or overflows the dtype on disk, and for a token that the model does not know.
        """
        torch.set_num_threads(self.config.threads)  # a thread of its own may come with a number of its own
        self._check_tokens(samples)
        lengths = [len(sample.token_ids) for sample in samples]
        starts = np.cumsum([0, *lengths])
        num_rows = {"tokens": int(starts[-1]), "samples": len(samples)}
        stored = {a.path: np.empty(a.shape(num_rows[a.rows]), STORED[a.dtype]) for a in self.arrays}
        for batch in batches(lengths, batch_tokens):
            tokens_N = torch.from_numpy(np.concatenate([np.arange(starts[i], starts[i + 1]) for i in batch]))
            rows = {"tokens": tokens_N, "samples": torch.tensor(batch)}
            for array, values_Nx in self._run_batch([samples[i] for i in batch]):
                _as_tensor(stored[array.path], array)[rows[array.rows]] = values_Nx
            for array in self._unproven:
                self._check_saved(array, samples[batch[0]], stored[array.path][starts[batch[0]] :])
            self._unproven = []
            on_batch(len(batch), len(tokens_N))
        return stored

    def _run_batch(self, samples: list[AnnotatedSample]) -> Iterator[tuple[ArrayRecord, Tensor]]:
        """Every array with its rows for one batch, [N, width], [N] or [B, width], on the CPU and as it is stored."""
        ids_BT, mask_BT = _pad([sample.token_ids for sample in samples])
        real_N = mask_BT.flatten().nonzero()[:, 0]
        owner = {"tokens": real_N // ids_BT.shape[1], "samples": torch.arange(len(samples))}
        for array, values_Nx in self._values(samples, ids_BT, mask_BT, real_N):
            stored_Nx = values_Nx.to(getattr(torch, array.dtype))
            finite_N = stored_Nx.isfinite().view(len(stored_Nx), -1).all(1)
            if not finite_N.all():
                row = int(finite_N.int().argmin())
                sample = samples[int(owner[array.rows][row])]
                raise ModelError(_not_finite(sample.id, array, overflow=bool(values_Nx[row].isfinite().all())))
            yield array, stored_Nx.cpu()

    def _values(
        self, samples: list[AnnotatedSample], ids_BT: Tensor, mask_BT: Tensor, real_N: Tensor
    ) -> Iterator[tuple[ArrayRecord, Tensor]]:
        """Every array with its rows for one batch, as the teacher's device computed them."""
        device = self._model.device
        ids_BT, mask_BT, real_N = ids_BT.to(device), mask_BT.to(device), real_N.to(device)
        hidden, mass = self._forward(ids_BT, mask_BT)
        states = BatchStates(hidden, mass, mask_BT, real_N)
        for maker in self._makers:
            for array in maker.arrays:
                yield array, maker.make(array, states)
        if self._logits is not None:
            yield from self._logits.make(states.real(hidden[self.record.num_layers]), samples)

    def _forward(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Hidden states [B, T, d] of the chosen layers and of the last, and their token masses [B, T].

        Positions are left to the model. It counts them from the left, where the text begins, and each in its own way:
        RoBERTa's first position is 2.
        """
        causal = self.config.kind == "causal"
        mode: Mode = "last" if causal else "received"
        arguments = {"use_cache": False} if causal else {"attention_mask": mask_BT.long()}
        model = _body(self._model) if causal else self._model
        probe: Any = collect_token_mass(self._mass, mask_BT, mode) if self._mass else nullcontext({})
        with torch.inference_mode(), _collect_hidden(self._model, self._hidden, self.record) as hidden, probe as mass:
            hidden[self.record.num_layers] = model(input_ids=ids_BT, **arguments).last_hidden_state
        for layer in self._hidden:
            if layer not in hidden:
                raise ModelError(f"{type(self._model).__name__} does not run its block {layer}; choose another layer")
        return hidden, mass

    def _check_saved(self, final: ArrayRecord, sample: AnnotatedSample, saved: np.ndarray) -> None:
        assert self.record.head is not None
        ids_T = torch.from_numpy(sample.token_ids.astype(np.int64))
        try:
            check_saved(self._model, ids_T, _as_tensor(saved[: len(ids_T)], final), self.record.head)
        except ModelError as error:
            raise ModelError(f"sample {sample.id!r}: {error}") from error

    def _check_tokens(self, samples: Sequence[AnnotatedSample]) -> None:
        known = self._model.get_input_embeddings().weight.shape[0]
        for sample in samples:
            if len(sample.token_ids) and int(sample.token_ids.max()) >= known:
                raise ModelError(
                    f"sample {sample.id!r} has token {int(sample.token_ids.max())}, but the teacher knows {known}; "
                    "`teacher.tokenizer` is not the tokenizer that this model was trained with"
                )


def _body(model: Any) -> Any:
    """The model without its head. Llama 4 names a part that its text model does not have, and so calls itself that."""
    body = model.base_model if model.base_model is not model else getattr(model, "model", None)
    if body is None:
        raise ModelError(f"{type(model).__name__} has no body apart from its head; it cannot be a teacher")
    return body


@contextmanager
def _collect_hidden(model: Any, layers: Sequence[int], record: TeacherRecord) -> Iterator[dict[int, Tensor]]:
    """Collect hidden_states[l] of the forward passes inside, for every l but the last, which follows the final norm.

    `output_hidden_states` would keep all L + 1 of them alive until the end of the pass; hooks keep what is asked for.
    """
    states: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        inner = [layer for layer in layers if layer < record.num_layers]
        for layer in inner:
            block = find_blocks(model)[max(0, layer - 1)]
            if layer == 0:
                hook = block.register_forward_pre_hook(_keep_input(states), with_kwargs=True)
            else:
                hook = block.register_forward_hook(_keep_output(states, layer))
            hooks.callback(hook.remove)
        yield states


def _keep_input(states: dict[int, Tensor]) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None]:
    def hook(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        states[0] = arguments[0] if arguments else keywords["hidden_states"]

    return hook


def _keep_output(states: dict[int, Tensor], layer: int) -> Callable[[Any, Any, Any], None]:
    def hook(module: Any, arguments: Any, output: Any) -> None:
        states[layer] = output if isinstance(output, Tensor) else output[0]  # of a tuple, or, in GPT-1, a list

    return hook


def _pad(token_ids: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """ids and mask [B, T], padded on the right. What a padding token is does not matter: it is never seen."""
    ids_BT = np.zeros((len(token_ids), max(map(len, token_ids))), np.int64)
    mask_BT = np.zeros(ids_BT.shape, bool)
    for row, ids in enumerate(token_ids):
        ids_BT[row, : len(ids)], mask_BT[row, : len(ids)] = ids, True
    return torch.from_numpy(ids_BT), torch.from_numpy(mask_BT)


def _as_tensor(stored: np.ndarray, array: ArrayRecord) -> Tensor:
    """A tensor over the same memory; NumPy holds bfloat16 as uint16."""
    tensor = torch.from_numpy(stored)
    return tensor.view(torch.bfloat16) if array.dtype == "bfloat16" else tensor


def _not_finite(sample_id: str, array: ArrayRecord, overflow: bool) -> str:
    if overflow:
        return f"sample {sample_id!r}: {array.path} overflows {array.dtype}; set states.dtype to bfloat16 or float32"
    return (
        f"sample {sample_id!r}: {array.path} of the teacher is not finite (NaN or infinity); "
        "are its weights sound, and is teacher.dtype one it can be run in (float16 overflows where bfloat16 does not)?"
    )
