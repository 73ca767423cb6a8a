"""How far a run is: a bar with rate and time left in a terminal, a line now and then in a log file."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.evaluation.held_out import Result
from trainer.optimisation.loop import StepReport

SECONDS_BETWEEN_LINES = 15.0


class TrainingProgress:
    """Shows step, loss, the last evaluation, tokens per second and the time left."""

    def __init__(self, name: str, done: int, steps: int):
        self.console = Console(stderr=True, markup=False, emoji=False)  # a run's name is no markup
        self.name, self.steps, self.last_line = name, steps, time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(name, total=steps, completed=done, state="")
        self.started, self.first = time.monotonic(), done

    def update(self, step: int, report: StepReport, evaluation: Result | None) -> None:
        """Show that `step` steps are done."""
        state = f"loss {report.loss:.4f}  {report.tokens_per_second:,.0f} tokens/s"
        if evaluation is not None:
            state += f"  {evaluation}"
        self.bar.update(self.task, completed=step, state=state)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.last_line > SECONDS_BETWEEN_LINES or step == self.steps):
            self.last_line = now
            left = (now - self.started) / (step - self.first) * (self.steps - step)
            self.console.print(
                f"{self.name}: step {step}/{self.steps}  {state}  {left:.0f} s left", highlight=False, soft_wrap=True
            )

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
