"""What Ray tells whoever watches a cluster (Prometheus, Grafana) of an extraction: ray_stillroom_... in its metrics."""

from ray.util.metrics import Counter, Gauge

from pipeline.cluster.figures import Tally
from pipeline.work.worker import UnitReport


class Metrics:
    """Those of one extraction, told by its driver."""

    def __init__(self, cache: str):
        """`cache` is the tag that tells one extraction from another: the name of its folder."""
        self._cache = {"cache": cache}
        keys = ("cache", "worker")
        self._tokens = Counter("stillroom_tokens", "Tokens that went through the teacher.", keys)
        self._units = Counter("stillroom_units", "Work units that were committed.", keys)
        self._forward = Counter("stillroom_forward_seconds", "Seconds of forward passes.", keys)
        self._retries = Counter("stillroom_retries", "Units and loadings that were tried again.", ("cache", "reason"))
        self._idle = Gauge("stillroom_idle_share", "Share of the workers' time without a forward pass.", ("cache",))
        self._padding = Gauge("stillroom_padding_share", "Share of padding in the teacher's batches.", ("cache",))

    def count_unit(self, worker: int, report: UnitReport, tally: Tally) -> None:
        """A worker has committed a unit, which is in `tally`."""
        tags = self._cache | {"worker": str(worker)}
        self._units.inc(1, tags)
        for counter, value in ((self._tokens, report.tokens), (self._forward, report.forward_seconds)):
            if value > 0:  # Ray takes no 0
                counter.inc(value, tags)
        self._padding.set(tally.padding, self._cache)
        if tally.idle is not None:
            self._idle.set(tally.idle, self._cache)

    def count_retry(self, reason: str) -> None:
        """A unit, or loading the teacher, is tried again."""
        self._retries.inc(1, self._cache | {"reason": reason})
