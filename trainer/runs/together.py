"""Several runs in one process, step by step in turn, that share one read of their cache.

Each has random numbers and threads of its own while it is at work, so it becomes the student that it would be alone. A
run that is behind, because it was killed at an earlier checkpoint, first takes the steps that it lacks.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch

from schemas.cache.readable import ReadableCache
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.strict import canonical_json
from trainer.optimisation.random_state import generator_states, set_generator_states
from trainer.runs.shared import Shared
from trainer.runs.train import RunResult, Steps, steps_of

LOGIT_BYTES = 4 * 10**9  # 8,192 predictions over some 122,000 tokens in float32

# What two runs may differ in and still read the same batches.
OWN = {
    "output", "objective", "optimizer", "steps", "epochs", "checkpoint_every", "keep_checkpoints",
    "log_every", "min_coverage", "min_agreement", "evaluation", "keep_tokens", "tokens_folder", "compile",
}  # fmt: skip
OWN_OF_STUDENT = {"model", "revision", "architecture", "embeddings", "dtype"}


def reads_as(config: TrainingConfig) -> Hashable:
    """Equal for runs that read the same batches, whatever they learn from them."""
    student = config.student.model_dump(mode="json", exclude=OWN_OF_STUDENT)
    if config.student.tokenizer is None:
        student |= {"tokenizer": config.student.model, "revision": config.student.revision}
    return canonical_json(config.model_dump(mode="json", exclude=OWN | {"student"}) | {"student": student})


def train_together(
    configs: Sequence[TrainingConfig], cache: ReadableCache | None = None, logit_bytes: int = LOGIT_BYTES
) -> list[RunResult | Exception]:
    """Train the students of `configs` as `train` does, all from one read; what ends one does not end the others.

    Takes the memory of all students at once, and up to `logit_bytes` for their teacher's logits over a batch. Raises
    RunError if they do not read the same batches.
    """
    if len({reads_as(config) for config in configs}) > 1:
        raise RunError("these runs do not read the same batches: order, seed, batch size and tokenizer must be equal")
    shared = Shared(logit_bytes if len(configs) > 1 else 0)
    members = [_Member(steps_of(config, cache, shared)) for config in configs]
    with _kept_state():
        try:
            for member in members:
                member.advance()
            while going := [member for member in members if member.result is None]:
                behind = min(member.step for member in going)
                for member in going:
                    if member.step == behind:
                        member.advance()
        finally:
            for member in members:
                member.close()
    return [member.result for member in members if member.result is not None]


class _Member:
    """One of the runs, between two of its steps."""

    def __init__(self, steps: Steps):
        self._steps, self._put_back = steps, _state()
        self.step = 0
        self.result: RunResult | Exception | None = None

    def advance(self) -> None:
        """Set it up, or take its next step, in its own state."""
        self._put_back()
        try:
            self.step = next(self._steps)
        except StopIteration as end:
            self.result = end.value
        except Exception as error:  # noqa: BLE001 - the caller is given it, and the other runs go on
            self.result = error
        self._put_back = _state()

    def close(self) -> None:
        """Give up what it holds."""
        self._put_back()
        self._steps.close()


def _state() -> Callable[[], None]:
    """What puts the process back to its present random numbers and threads."""
    generators, threads = generator_states(), torch.get_num_threads()

    def put_back() -> None:
        set_generator_states(generators)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return put_back


@contextmanager
def _kept_state() -> Iterator[None]:
    put_back = _state()
    try:
        yield
    finally:
        put_back()
