"""Python programs as processes of their own that do not import torch and transformers anew: seven seconds each.

A server per test process imports what is not ours, once, and forks itself for each program. What is ours is imported by
the program, from the paths and in the environment that it is given. What Python itself does at its start is not shown.
"""

import atexit
import gc
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from types import ModuleType
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
CLI = ("-m", "jobs.cli")
# Not Ray either, which reads its settings from the environment as it is imported.
NOT_OURS = [
    *("zarr", "peft", "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto"),
    *("pydantic", "pyarrow.parquet", "rich.progress", "rich.table", "typer", "xxhash"),
]


class Program:
    """What `subprocess.Popen` is, with text pipes. `arguments` begin with `-m MODULE`, `-c CODE` or a script.

    `together` puts what it says on stderr among what it says on stdout. `session` makes it the leader of a group.
    """

    def __init__(
        self,
        arguments: Iterable[object],
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
        together: bool = False,
        session: bool = False,
    ):
        said, beside = os.pipe(), os.pipe()
        variables = dict(os.environ if environment is None else environment)
        streams = {1: said[1], 2: said[1] if together else beside[1]}
        self._process = start([*map(str, arguments)], str(folder), variables, streams, session)
        os.close(said[1])
        os.close(beside[1])
        self.stdout, self.stderr = _text(said[0]), _text(beside[0])
        self.pid = int(self._process.pid or 0)

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired(self._process.name, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it says on stdout and stderr from now to its end, once. Raises TimeoutExpired."""
        found: dict[IO[str], str] = {}
        readers = [
            threading.Thread(target=lambda pipe=pipe: found.update({pipe: pipe.read()}))
            for pipe in (self.stdout, self.stderr)
        ]
        for reader in readers:
            reader.daemon = True
            reader.start()
        self.wait(timeout)
        for reader, pipe in zip(readers, (self.stdout, self.stderr), strict=True):
            reader.join(timeout)
            pipe.close()
        return found[self.stdout], found[self.stderr]

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def start(
    arguments: list[str], folder: str, variables: dict[str, str], streams: dict[int, int], session: bool = False
) -> BaseProcess:
    """A program that is forked, whose descriptors are `streams`."""
    context = get_context("forkserver")
    context.set_forkserver_preload(NOT_OURS)  # before the first alone
    process = context.Process(target=_Start(arguments, folder, variables, streams, session))
    process.start()
    return process


def run(
    arguments: Sequence[object], folder: Path = ROOT, environment: Mapping[str, str] | None = None, timeout: float = 200
) -> "CompletedProcess[str]":
    """What `subprocess.run` does. Raises TimeoutExpired once it is killed."""
    program = Program(arguments, folder, environment)
    try:
        said, beside = program.communicate(timeout)
    except BaseException:
        program.kill()
        raise
    return CompletedProcess([*map(str, arguments)], program.wait(), said, beside)


def _text(pipe: int) -> IO[str]:
    return open(pipe, encoding="utf-8")


class _Start:
    """What is sent to the server, and called in the process that it forks."""

    def __init__(
        self, arguments: list[str], folder: str, variables: dict[str, str], streams: dict[int, int], session: bool
    ):
        self.arguments, self.folder, self.variables, self.session = arguments, folder, variables, session
        self.streams = streams

    def __getstate__(self) -> dict[str, object]:
        """Descriptors are handed over by the server's socket."""
        return self.__dict__ | {"streams": {number: DupFd(stream) for number, stream in self.streams.items()}}

    def __call__(self) -> None:
        gc.freeze()  # what the server has imported: to look for garbage in it took a third of all other imports
        if self.session:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in self.streams.items():
            descriptor = stream.detach()  # type: ignore[attr-defined]
            os.dup2(descriptor, number)
            os.close(descriptor)
        if 0 in self.streams:
            sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        os.environ.clear()
        os.environ.update(self.variables)
        os.chdir(self.folder)
        paths = self.variables.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:] = [*filter(None, paths), *(path for path in sys.path if path not in ("", str(ROOT))), str(ROOT)]
        code = _ended(self.arguments)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def _ended(arguments: list[str]) -> int:
    """The exit code of what is named, as Python makes it."""
    kind, *rest = sys.argv = arguments
    try:
        if kind == "-m":
            sys.argv = [kind, *rest[1:]]
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.argv = [kind, *rest[1:]]
            main = ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(rest[0], main.__dict__)
        else:
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except (Exception, KeyboardInterrupt):  # noqa: BLE001, as Python does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
