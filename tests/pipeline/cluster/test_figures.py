"""Where the time went, over reports that are counted by hand."""

from pipeline.cluster.figures import Tally, make_figures, padding_share
from pipeline.work.worker import UnitReport
from schemas.cache.shard import ShardRecord

RECORD = ShardRecord(fingerprint="f", unit=0, samples=1, tokens=1, files={}, truncated=0, overlong=0)


def report(began: float, seconds: float, tokens: int, positions: int, halved: int = 0) -> UnitReport:
    return UnitReport(
        RECORD, tokens, forward_seconds=seconds, write_seconds=1.0, began=began, positions=positions, halved=halved
    )


def test_figures_of_two_workers() -> None:
    reports = {
        0: report(100, 4, 80, 100),  # worker 0: 100-104 and 106-108, so 2 of its 8 seconds idle
        1: report(106, 2, 60, 60),
        2: report(101, 1, 10, 20, halved=2),  # worker 1: a single unit, between whose passes nothing lies
        3: UnitReport(RECORD, 7),  # of a shard that was there
    }
    tally = Tally()
    for unit, worker in ((1, 0), (0, 0), (2, 1), (3, 1)):
        tally.add(unit, worker, reports[unit])
    tally.retries["its worker died"] += 2
    found = make_figures(reports, tally)
    assert (found.workers, found.forward_seconds, found.write_seconds, found.halved) == (2, 7, 3, 2)
    assert found.idle == 0.25 and found.padding == padding_share(157, 180) == 1 - 157 / 180
    assert [(slow.unit, slow.worker, slow.rate) for slow in found.slowest] == [(2, 1, 10), (0, 0, 20), (1, 0, 30)]
    assert found.retries == {"its worker died": 2}


def test_nothing_is_no_share() -> None:
    assert padding_share(0, 0) == 0 and Tally().idle is None and Tally().padding == 0
