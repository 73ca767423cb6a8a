"""One local Ray for all tests of a process that extract in it: to start it takes seconds."""

import os
import tempfile
from contextlib import ExitStack

import pytest


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
            # An annotator has imported what it needs: it stays for the next extraction, else it ends within a second.
            os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "120000")
            # Room for two actors, an annotating task, and a second driver beside the first, whatever the machine has.
            copies = self._held.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("STILLROOM_CACHE", copies)  # of workers: not the user's, and not the driver's
                self._held.enter_context(connected(WorkersConfig(count=2, cpus=0.25, annotator_cpus=0.25)))
        return str(ray.get_runtime_context().gcs_address)

    @classmethod
    def end(cls) -> None:
        """It and its processes, if it was started."""
        cls._held.close()
