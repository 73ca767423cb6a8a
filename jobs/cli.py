"""The command line: its commands, and the process that one runs in.

Every command imports what it needs when it runs, so `stillroom --help` answers at once.
"""

import os
from collections.abc import Callable

import typer

from jobs.commands import caches, evaluation, extraction, reference, submission, training
from jobs.guard import GuardedGroup, guard, heed_interrupts, make_output_safe, require_docstrings

# In the order in which `--help` lists them.
COMMANDS: dict[str, Callable[..., None]] = {
    "plan": extraction.plan,
    "extract": extraction.extract,
    "import": extraction.import_,
    "extend": extraction.extend,
    "inspect": caches.inspect,
    "verify": caches.verify,
    "repair": caches.repair,
    "diff": caches.diff,
    "reindex": caches.reindex,
    "train": training.train,
    "sweep": training.sweep,
    "submit": submission.submit,
    "generate": training.generate,
    "evaluate": evaluation.evaluate,
    "compare": evaluation.compare,
    "schema": reference.schema,
    "presets": reference.presets,
    "demo": reference.demo,
}

app = typer.Typer(
    name="stillroom",
    cls=GuardedGroup,
    help="Distil language models from teachers that are no longer running.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for name, command in COMMANDS.items():
    # In one line, so that terminals of every width break it where they end.
    app.command(name, help=" ".join((command.__doc__ or "").split()))(command)


def main() -> None:
    """Entry point. What a user or a machine can cause ends in one message on stderr and an exit code (`jobs.guard`)."""
    # Waiting threads of torch spin for long by default. If other programs want the same cores, they wait in vain for a
    # thread that lost its core: two trainings on two cores took ten times as long. If they sleep at once, they wake too
    # late for short operations: a step with span-KD on two threads took an eighth longer. So libgomp's threads spin for
    # some microseconds and then sleep; other libraries know the policy alone.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    # Pictures are drawn by Agg alone; matplotlib cannot be imported where this names a backend that it does not find.
    os.environ.pop("MPLBACKEND", None)
    make_output_safe()
    heed_interrupts()
    with guard():
        require_docstrings()
        app()


if __name__ == "__main__":
    main()
