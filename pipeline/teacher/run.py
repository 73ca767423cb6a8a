"""The teacher at work: samples in, the states of every kind asked for out.

Only the chosen layers are kept, and the LM head is computed only for kinds that are made from logits (otherwise 10-25 %
of a small model's time is saved). Memory: the weights, one batch's activations, and the arrays of the unit.

Shapes: B samples, T tokens, N real tokens of a batch, K of them that are kept, d hidden size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.batching import BatchRule, batches
from pipeline.teacher.check import (
    TOLERANCE,
    check_batch,
    check_head,
    check_layers,
    check_length,
    check_saved,
    compare_rows,
    run_alone,
)
from pipeline.teacher.experts import Choices, recorded
from pipeline.teacher.forward import TeacherForward, pad
from pipeline.teacher.host_copies import HostCopier, HostCopies
from pipeline.teacher.load import SCRATCH, load_teacher
from pipeline.teacher.logits import LogitStates
from pipeline.teacher.maker import BatchStates, LogitsMaker, StatesMaker, build_makers
from pipeline.teacher.memory import OneSampleTooLarge, run_in_parts
from pipeline.teacher.record import find_embedding
from pipeline.teacher.unit_rows import UnitRows, finite_rows, first_not_finite, kept_tokens, owner, total
from pipeline.teacher.wanted import WantedStates
from schemas.cache.arrays import ArrayRecord
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.row_units import as_square, count_rows_by_unit
from schemas.cache.states import Values
from schemas.cache.token_rows import count_rows
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError, ResourceError
from schemas.models.forward import unchanged
from schemas.models.logits import find_head
from schemas.models.positions import require_tokens
from schemas.models.spread import main_device
from schemas.models.token_mass import enable_token_mass


class Teacher:
    """A loaded and checked teacher. `record` says what it is, `arrays` what `run` gives."""

    def __init__(
        self,
        config: TeacherConfig,
        wanted: WantedStates,
        folder: Path,
        adapter: Path | None,
        scratch: Path = SCRATCH,
        owner: str = "",
    ):
        """`scratch` and `owner` are as `load_teacher` takes them.

        Raises ModelError for a model that cannot be loaded, is not what `wanted` says, or cannot give it.
        """
        self.config, self.folder = config, folder
        self.record = wanted.teacher
        self._all_makers = makers = list(build_makers(wanted.arrays, wanted.records))
        self.arrays = [array for maker in makers for array in maker.makes]
        self._makers = [maker for maker in makers if isinstance(maker, StatesMaker)]
        hidden = sorted({layer for maker in makers for layer in maker.hidden_layers})
        mass = sorted({layer for maker in makers for layer in maker.mass_layers})
        attention = {reading: set[int]() for maker in makers for reading in maker.attention_layers}
        for maker in makers:
            for reading, layers in maker.attention_layers.items():
                attention[reading] |= layers
        torch.set_num_threads(config.threads)
        self._model = load_teacher(config, folder, adapter, scratch, owner)
        self._forward = TeacherForward(self._model, self.record, hidden, mass, attention)
        self._prove()
        final = [a for a in self.arrays if a.kind == "hidden" and a.layer == self.record.num_layers]
        self._unproven = final if self.record.head is not None else []  # until the first batch
        self._padding_unproven = True  # until the first batch that has some
        self._logits = self._logit_states([maker for maker in makers if isinstance(maker, LogitsMaker)])
        self._copier = HostCopier(self.device)

    def _prove(self) -> None:
        """Switch the model to an attention that can be read, if need be, and check it."""
        with unchanged(self._model):
            references = run_alone(self._model, self.record)
        self.chooses = any(reference.choices for reference in references)  # experts
        if self._forward.reads_attention:
            enable_token_mass(self._model)
        with unchanged(self._model):
            check_layers(self._forward, references, self.config.dtype)
            check_batch(self._rows, self._forward, references, self.config.dtype)
            check_length(self._forward)
            if self.record.head is not None:
                check_head(self._model, references, self.record.head)

    def _logit_states(self, makers: list[LogitsMaker]) -> LogitStates | None:
        if not makers:
            return None
        if self.record.head is None:
            raise ModelError(f"states.{makers[0].name} needs next-token logits, which no encoder has")
        return LogitStates(*self.head(), self.record.head, makers)

    @property
    def device(self) -> torch.device:
        """Where its states come out."""
        return main_device(self._model)

    def head(self) -> tuple[Tensor, Tensor | None]:
        """W_U [V, d] and its bias [V], in the compute dtype. Raises ModelError for an encoder."""
        return find_head(self._model)

    def embedding(self) -> Tensor:
        """The input embeddings [V, d], in the compute dtype."""
        return find_embedding(self._model)

    def run(
        self,
        samples: Sequence[AnnotatedSample],
        rule: BatchRule,
        on_batch: Callable[[int, int], None],
        on_halved: Callable[[int, int], None] = lambda samples, tokens: None,
    ) -> dict[str, np.ndarray]:
        """Plain numbers of `arrays`, by path and in their dtypes; rows are samples, their tokens, or those of their
        tokens that are kept, in order.

        `on_batch(samples, tokens)` is told of every batch done, `on_halved` of every one for which memory ran out.
        Raises ModelError naming sample and layer for a state that is not finite, or overflows the dtype on disk,
        and for a token that the model does not know; ResourceError naming a sample that is too large for memory alone.
        """
        return self.start(samples, rule, on_batch, on_halved)()

    def start(
        self,
        samples: Sequence[AnnotatedSample],
        rule: BatchRule,
        on_batch: Callable[[int, int], None],
        on_halved: Callable[[int, int], None] = lambda samples, tokens: None,
    ) -> Callable[[], dict[str, np.ndarray]]:
        """The first part of `run`, which ends when the last batch is launched; what is returned is the rest, beside
        which another unit may be started. Each batch is stored while the next is computed. Raises what `run` does, as
        the rest does."""
        torch.set_num_threads(self.config.threads)  # a thread of its own may come with a number of its own
        self._check_tokens(samples)
        lengths = [len(sample.token_ids) for sample in samples]
        rows, launched = UnitRows(samples, self.arrays, self._causal), list[tuple[list[int], _Launched]]()

        def put(batch: list[int], made: _Launched) -> int:
            """Store the rows of a batch; how many tokens it has."""
            places = rows.places(batch)
            for array, values_Nx in self._take([samples[i] for i in batch], made):
                rows.store(places, array, values_Nx)
            return len(places["tokens"])

        def store() -> None:
            """Store the rows of the batch that was launched, if one was."""
            while launched:
                tokens = put(*launched[-1])
                batch, _ = launched.pop()  # not before: if memory fails, the next is halved, and this one stored again
                on_batch(len(batch), tokens)

        def run_batch(batch: list[int]) -> None:
            """Launch these samples, store those before, and prove the first batches."""
            pads = self._padding_unproven and lengths[batch[0]] > lengths[batch[-1]]
            with recorded(len(batch)) if pads or self._unproven else nullcontext(NO_CHOICES) as choices:
                made = self._launch([samples[i] for i in batch])
            store()
            if not (pads or self._unproven):
                launched.append((batch, made))
                return
            tokens = put(batch, made)
            if pads:
                for number in (0, len(batch) - 1):
                    i = batch[number]
                    with choices.followed(number, TOLERANCE[self.config.dtype]):
                        self._check_alone(samples[i], {a.path: rows.of_sample(i, a) for a in self.arrays})
                self._padding_unproven = False
            for array in self._unproven:
                with choices.followed(0, TOLERANCE[self.config.dtype]):
                    self._check_saved(samples[batch[0]], rows.of_sample(batch[0], array))
            self._unproven = []
            on_batch(len(batch), tokens)  # not before: if memory fails in a proof, its halves are counted instead

        for batch in batches(lengths, rule):
            try:
                run_in_parts(batch, run_batch, lambda part: on_halved(len(part), sum(lengths[i] for i in part)))
            except OneSampleTooLarge as error:
                raise ResourceError(_too_large(samples[error.index], error)) from error

        def finish() -> dict[str, np.ndarray]:
            store()
            return rows.stored

        return finish

    def pack(self, made: Mapping[str, np.ndarray]) -> tuple[dict[str, Values], dict[str, EncodingCost]]:
        """The arrays of a shard by path, as their codecs take them, of what `run` gave; and what packing lost."""
        arrays, costs = dict[str, Values](), dict[str, EncodingCost]()
        for maker in self._all_makers:
            packed, lost = maker.pack(made, self.record)
            arrays |= packed
            costs |= lost
        return arrays, costs

    @contextmanager
    def choosing_as_in(self, batch: Sequence[AnnotatedSample], number: int) -> Iterator[None]:
        """Inside, sample `number` of a batch runs alone, and its tokens go to the experts that they go to in the batch.

        Costs a pass over the batch, or over the part of it that memory holds; nothing for a model without experts.
        Raises ModelError at the end if the batch decides what its experts are.
        """
        if not self.chooses or not len(batch[number].token_ids):
            yield
            return
        found = dict[int, tuple[Choices, int]]()

        def run_part(part: list[int]) -> None:
            with recorded(len(part)) as choices:
                self._forward(*pad([batch[i].token_ids for i in part]))
            found.update({i: (choices, place) for place, i in enumerate(part)})

        run_in_parts(list(range(len(batch))), run_part, lambda part: None)
        choices, place = found[number]
        with choices.followed(place, TOLERANCE[self.config.dtype]):
            yield

    def predict(self, samples: Sequence[AnnotatedSample], number: int) -> Iterator[tuple[slice, Tensor]]:
        """Which rows of sample `number`, run in one batch with the others, and their next-token logits [R, V], float32,
        some at a time.

        Raises ModelError unless it makes states of logits.
        """
        if self._logits is None:
            raise ModelError("none of the states asked for is made of next-token logits")
        ids_BT, mask_BT = pad([sample.token_ids for sample in samples])
        states = self._states(ids_BT, mask_BT, mask_BT.flatten().nonzero()[:, 0])
        first = sum(count_rows(sample.token_rows) for sample in samples[:number])
        kept_K = kept_tokens(samples)[first : first + count_rows(samples[number].token_rows)].to(self.device)
        yield from self._logits.logits(states.real(states.hidden[self.record.num_layers]), kept_K)

    def _launch(self, samples: list[AnnotatedSample]) -> "_Launched":
        """Every array with its rows for one batch, [rows, width] or [rows], as it is stored, on its way to the host."""
        ids_BT, mask_BT = pad([sample.token_ids for sample in samples])
        real_N = mask_BT.flatten().nonzero()[:, 0]
        kept_K = kept_tokens(samples)
        arrays, tensors = list[ArrayRecord](), list[Tensor]()
        for array, values_Nx in self._values(samples, ids_BT, mask_BT, real_N, kept_K):
            stored_Nx = values_Nx.to(getattr(torch, array.dtype))
            # Of what is not rounded, to be finite is the same before and after.
            finite_N = values_Nx.new_empty(0) if stored_Nx is values_Nx else finite_rows(values_Nx)
            arrays.append(array)
            tensors += [stored_Nx, total(stored_Nx), finite_N]
        return _Launched(arrays, self._copier.start(tensors))

    def _take(self, samples: list[AnnotatedSample], made: "_Launched") -> Iterator[tuple[ArrayRecord, Tensor]]:
        """Every array with its rows for one batch, on the CPU. Raises ModelError for a number that is not finite."""
        copies = iter(made.copies.wait())
        for array, stored_Nx, sum_of_all, finite_N in zip(made.arrays, copies, copies, copies, strict=True):
            if (row := first_not_finite(stored_Nx, sum_of_all)) is not None:
                sample = samples[owner(row, array, samples, self._causal)]
                raise ModelError(_not_finite(sample.id, array, overflow=bool(len(finite_N) and finite_N[row])))
            yield array, stored_Nx

    def _values(
        self, samples: list[AnnotatedSample], ids_BT: Tensor, mask_BT: Tensor, real_N: Tensor, kept_K: Tensor
    ) -> Iterator[tuple[ArrayRecord, Tensor]]:
        """Every array with its rows for one batch, as the teacher's device computed them."""
        states = self._states(ids_BT, mask_BT, real_N)
        kept = None if len(kept_K) == len(real_N) else kept_K.to(self.device)
        for array, values_Nx in self._made(states):
            yield array, values_Nx if kept is None or not array.follows_subset else values_Nx[kept]
        if self._logits is not None:
            yield from self._logits.make(states.real(states.hidden[self.record.num_layers]), samples, kept)

    def _states(self, ids_BT: Tensor, mask_BT: Tensor, real_N: Tensor) -> BatchStates:
        device = self.device
        hidden, mass, attention = self._forward(ids_BT, mask_BT)
        return BatchStates(hidden, mass, mask_BT.to(device), real_N.to(device), attention)

    @property
    def _causal(self) -> bool:
        return self.record.kind == "causal"

    def _shown(self, array: ArrayRecord, rows_Nx: Tensor) -> Tensor:
        """One sample's rows as they are compared: those of attention maps as one row per token that attends."""
        if array.rows != "pairs":
            return rows_Nx
        square = as_square(rows_Nx.float().cpu().numpy(), self._causal)
        return torch.from_numpy(square.reshape(len(square), -1))

    def _made(self, states: BatchStates) -> Iterator[tuple[ArrayRecord, Tensor]]:
        for maker in self._makers:
            for array in maker.makes:
                yield array, maker.make(array, states)

    def _rows(self, texts: list[Tensor]) -> list[dict[str, Tensor]]:
        """For each text of token ids [T], run as one batch: its rows of every array that is made from states, by path,
        and of the final states."""
        ids_BT, mask_BT = pad([ids_T.cpu().numpy() for ids_T in texts])
        states = self._states(ids_BT, mask_BT, mask_BT.flatten().nonzero()[:, 0])
        lengths = [len(ids_T) for ids_T in texts]
        final_Nd = states.real(states.hidden[self.record.num_layers])
        parts = {f"hidden/{self.record.num_layers}": final_Nd.split(lengths)}
        for array, values_Nx in self._made(states):
            per_text = count_rows_by_unit(lengths, lengths, self._causal)[array.rows].tolist()
            parts[array.path] = tuple(self._shown(array, rows_Nx) for rows_Nx in values_Nx.split(per_text))
        return [{path: part[text] for path, part in parts.items()} for text in range(len(texts))]

    def _check_alone(self, sample: AnnotatedSample, stored: dict[str, Tensor]) -> None:
        """`stored`, the sample's rows by path, must be what the teacher gives for it alone, up to rounding."""
        alone = self._rows([torch.from_numpy(sample.token_ids.astype(np.int64))])[0]
        kept_K = kept_tokens([sample])
        for array in self.arrays:
            if array.path in alone and array.dtype in TOLERANCE:
                tolerance = max(TOLERANCE[self.config.dtype], TOLERANCE[array.dtype])
                own = alone[array.path].cpu()
                found = self._shown(array, stored[array.path])
                pair = {array.path: found}, {array.path: own[kept_K] if array.follows_subset else own}
                if problem := compare_rows(*pair, tolerance):
                    raise ModelError(
                        f"sample {sample.id!r}: {problem}: its states depend on the padding or on the other texts of a "
                        "batch, so they cannot be cached"
                    )

    def _check_saved(self, sample: AnnotatedSample, saved_Kd: Tensor) -> None:
        assert self.record.head is not None
        ids_T = torch.from_numpy(sample.token_ids.astype(np.int64))
        try:
            check_saved(self._model, ids_T, kept_tokens([sample]), saved_Kd, self.record.head)
        except ModelError as error:
            raise ModelError(f"sample {sample.id!r}: {error}") from error

    def _check_tokens(self, samples: Sequence[AnnotatedSample]) -> None:
        for sample in samples:
            if len(sample.token_ids):
                require_tokens(self._model, int(sample.token_ids.max()), f"sample {sample.id!r}")


NO_CHOICES = Choices(1)


@dataclass(frozen=True)
class _Launched:
    """A batch that was launched: of each array its rows, their total, and which of them were finite before they were
    rounded."""

    arrays: list[ArrayRecord]
    copies: HostCopies


def _not_finite(sample_id: str, array: ArrayRecord, overflow: bool) -> str:
    if overflow:
        return f"sample {sample_id!r}: {array.path} overflows {array.dtype}; set states.dtype to bfloat16 or float32"
    return (
        f"sample {sample_id!r}: {array.path} of the teacher is not finite (NaN or infinity); "
        "are its weights sound, and is teacher.dtype one it can be run in (float16 overflows where bfloat16 does not)?"
    )


def _too_large(sample: AnnotatedSample, error: Exception) -> str:
    return (
        f"sample {sample.id!r}: memory does not suffice for its {len(sample.token_ids):,} tokens alone ({error}); give "
        "every worker a GPU of its own (workers.gpus: 1) or a larger one and run the same command again, or lower "
        "teacher.max_tokens and name a new output"
    )
