"""One local Ray for all tests of a process that extract in it. To start it takes seconds; its workers, each of which
would take seven more to import torch and transformers, are forked from the server of `tests.commands`."""

import json
import os
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests import ray_worker
from tests.commands import start

# `stillroom` whose own Ray has the workers of `forked_workers`: its arguments and its environment follow.
FORKING_CLI = (
    "-c",
    "import ray._private.ray_constants as constants, jobs.cli\n"
    f"constants.SETUP_WORKER_FILENAME = {ray_worker.__file__!r}\n"
    "jobs.cli.main()",
)


class OneRay:
    """A Ray that is started when it is first wanted, and again after it was ended."""

    _held = ExitStack()

    def address(self) -> str:
        """Where it is, started if need be. ray is imported for those alone who want one."""
        import ray

        from pipeline.cluster.connection import connected
        from schemas.configs.extraction import WorkersConfig

        if not ray.is_initialized():
            os.environ.setdefault("RAY_metrics_report_interval_ms", "500")  # else every 10 s
            # A node that is gone has not answered five times in a row: after 3 s instead of 15.
            os.environ.setdefault("RAY_health_check_period_ms", "500")
            # An annotator has imported what it needs: it stays for the next extraction, else it ends within a second.
            os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "120000")
            folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            forking = self._held.enter_context(forked_workers(folder / "workers"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("STILLROOM_CACHE", str(folder / "copies"))  # of workers: not the user's, nor the driver's
                for name, value in forking.items():
                    patch.setenv(name, value)
                patch.setattr("ray._private.ray_constants.SETUP_WORKER_FILENAME", ray_worker.__file__)
                # Room for two actors, an annotating task, and a second driver, whatever the machine has.
                self._held.enter_context(connected(WorkersConfig(count=2, cpus=0.25, annotator_cpus=0.25)))
        return str(ray.get_runtime_context().gcs_address)

    @classmethod
    def end(cls) -> None:
        """It and its processes, if it was started."""
        cls._held.close()


@contextmanager
def forked_workers(place: Path) -> Iterator[dict[str, str]]:
    """What the environment of a Ray is to hold whose workers are forked, by whoever listens at the socket `place`."""
    with _Forking(place):
        yield {ray_worker.ASKED_AT: str(place)}


class _Forking(socketserver.UnixStreamServer):
    """Whoever asks at the socket `place` gets a worker."""

    def __init__(self, place: Path):
        super().__init__(str(place), _Asked)
        self.started = list[BaseProcess]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_close(self) -> None:
        """After Ray, with which workers end; each in its own time."""
        self.shutdown()
        super().server_close()
        for worker in self.started:
            worker.join()


class _Asked(socketserver.BaseRequestHandler):
    """`tests.ray_worker`, which hands over its streams and what its worker is to be started with."""

    server: _Forking

    def handle(self) -> None:
        size, streams, _, _ = socket.recv_fds(self.request, 8, 3)
        with self.request.makefile("rb") as request:
            arguments, folder, variables = json.loads(request.read(int.from_bytes(size, "big")))
        self.server.started.append(start(arguments, folder, variables, dict(enumerate(streams))))
        for stream in streams:
            os.close(stream)
