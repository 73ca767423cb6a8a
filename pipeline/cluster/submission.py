"""Jobs on a Ray cluster, by the job server behind its dashboard: submitted, followed line by line, stopped."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

from schemas.errors import ResourceError

TRIES = 6  # to reach the log again, in a row
PAUSE = 1.0  # seconds before the second of them; each later one is twice as long
SETTLE = 60.0  # seconds that a job may take to be over once its log has ended
STOPPED = 143  # as of a process that SIGTERM ended
MOST_WORDS = 500  # characters of what Ray says


@dataclass(frozen=True)
class JobState:
    """How a job stands."""

    status: str  # pending, running, succeeded, failed, stopped
    message: str
    exit_code: int | None  # once it is over; 0 if it has succeeded

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.exit_code is not None


class JobServer:
    """The job server of one cluster. Whatever it is asked, it raises ResourceError if it does not answer."""

    def __init__(self, address: str):
        """`address` is the dashboard's, as http://head:8265."""
        if not address.startswith(("http://", "https://")):
            raise ResourceError(
                f"{address}: give the address of the cluster's dashboard, as http://head:8265; jobs are submitted there"
            )
        self.address = address
        logging.getLogger("ray").setLevel(logging.ERROR)
        with self._answering():
            self._client = JobSubmissionClient(address)

    def submit(
        self,
        name: str,
        command: str,
        folder: Path,
        variables: Mapping[str, str],
        cpus: float | None,
        gpus: float | None,
    ) -> None:
        """Start `command` on the cluster in a copy of `folder`, with these variables in its environment; `cpus` and
        `gpus` are reserved for its own process."""
        with self._answering():
            self._client.submit_job(
                submission_id=name,
                entrypoint=command,
                runtime_env={"working_dir": str(folder), "env_vars": {"PYTHONUNBUFFERED": "1", **variables}},
                entrypoint_num_cpus=cpus,
                entrypoint_num_gpus=gpus,
            )

    def state(self, name: str) -> JobState:
        """How it stands now."""
        with self._answering():
            found = self._client.get_job_info(name)
        status, code = JobStatus(found.status), found.driver_exit_code
        if not status.is_terminal():
            return JobState(status.lower(), "", None)
        # What a command says itself stands in its log, and Ray's message would repeat that.
        why = " ".join((found.message or "").split())[:MOST_WORDS] if status == JobStatus.FAILED and not code else ""
        return JobState(status.lower(), why, _exit_code(status, code))

    def stop(self, name: str) -> None:
        """Ask it to end."""
        with self._answering():
            self._client.stop_job(name)

    def log(self, name: str) -> Generator[str]:
        """All that it prints, from its beginning to its end, in pieces.

        A connection that breaks is made again, and nothing comes twice.
        """
        shown, tries = 0, 0
        while True:
            before = shown
            try:
                for piece in self._tail(name, shown):
                    shown += len(piece)
                    yield piece
                return
            except Exception as error:
                tries = 1 if shown > before else tries + 1
                if tries == TRIES:
                    raise ResourceError(f"the cluster at {self.address} answers no more: {_words(error)}") from error
                time.sleep(PAUSE * 2 ** (tries - 1))

    def wait(self, name: str) -> JobState:
        """How it ended, a moment after its log has. Raises ResourceError also if it does not."""
        limit = time.monotonic() + SETTLE
        while not (found := self.state(name)).is_over:
            if time.monotonic() > limit:
                raise ResourceError(f"the log of job {name} has ended, and its cluster says that it is {found.status}")
            time.sleep(0.2)
        return found

    def _tail(self, name: str, known: int) -> Iterator[str]:
        """What comes after the first `known` characters."""
        pieces = self._client.tail_job_logs(name)
        with closing(asyncio.new_event_loop()) as loop:
            try:
                while (piece := _run(loop, _next(pieces))) is not None:
                    if new := piece[known:]:
                        yield new
                    known = max(0, known - len(piece))
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ResourceError(f"the cluster at {self.address} says: {_words(error)}") from error


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


def _run(loop: asyncio.AbstractEventLoop, awaited: Coroutine[Any, Any, str | None]) -> str | None:
    """Ctrl-C amid it ends what is awaited, too: left alone, it would complain when Python ends."""
    task = loop.create_task(awaited)
    try:
        return loop.run_until_complete(task)
    finally:
        if task.cancel():
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)


def _exit_code(status: JobStatus, code: int | None) -> int:
    """A process that a signal ended counts as a shell has it."""
    if status == JobStatus.SUCCEEDED:
        return 0
    if status == JobStatus.STOPPED:
        return STOPPED
    return 128 - code if code is not None and code < 0 else code or 1


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[-MOST_WORDS:] or type(error).__name__
