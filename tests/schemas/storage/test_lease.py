import math
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from schemas.errors import CacheError
from schemas.storage import lease as module
from schemas.storage import lock
from schemas.storage.lease import Lease, acquire_lease
from schemas.storage.lock import LockRecord, make_record
from tests.buckets import Bucket


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.01)


def acquire(bucket: Bucket, said: list[str] | None = None) -> Lease:
    return acquire_lease(f"{bucket.url}/.writer", CacheError, (said if said is not None else []).append)


def leave(bucket: Bucket, **fields: object) -> None:
    """A lease whose holder is another."""
    record = make_record().model_copy(update=fields)
    bucket.put(".writer", record.model_dump_json().encode())


def test_one_holds_it_and_the_other_is_told_who(bucket: Bucket) -> None:
    began = time.time()
    held = acquire(bucket)
    assert held.is_held()
    assert LockRecord.model_validate_json(bucket.get(".writer")) == held.record
    with pytest.raises(CacheError, match=f"process {os.getpid()} on .*, seen [0-9]+ s ago") as refused:
        acquire(bucket)
    assert int(str(refused.value).split(", seen ")[1].split(" s")[0]) <= time.time() - began + 0.5  # it is rounded
    held.release()
    assert bucket.keys() == []
    acquire(bucket).release()


def test_a_beat_keeps_it_young(bucket: Bucket) -> None:
    held = acquire(bucket)
    puts = bucket.door.asked["PUT"]
    with bucket.trouble(errors=0.3):
        time.sleep(0.5)
    assert bucket.door.asked["PUT"] > puts + 1
    held.release()
    assert bucket.keys() == []


def test_that_of_a_dead_process_of_this_host_is_taken_over_at_once(bucket: Bucket) -> None:
    dead = multiprocessing.get_context("fork").Process(target=lambda: None)
    dead.start()
    pid = dead.pid
    dead.join()
    boot = make_record().started.split(" ")[0]
    leave(bucket, token="gone", pid=pid, started=f"{boot} 1")
    said, left = list[str](), time.monotonic()
    held = acquire(bucket, said)
    assert held.is_held()
    ages = range(math.ceil(time.monotonic() - left) + 2)  # a busy machine takes some seconds
    holder = f"process {pid} on {os.uname().nodename}"
    assert said in [
        [f"{bucket.url}/.writer was left behind by {holder}, seen {age} s ago; it is taken over"] for age in ages
    ]
    held.release()
    assert bucket.keys() == []


def test_that_of_another_host_is_taken_over_when_it_is_old(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(bucket, host="elsewhere/1", token="there")
    with pytest.raises(CacheError, match=r"process .* on elsewhere"):
        acquire(bucket)
    monkeypatch.setattr(lock, "STALE_SECONDS", 1.0)
    time.sleep(2.1)  # a storage counts whole seconds
    found: list[Lease] = []

    def want() -> None:
        try:
            found.append(acquire(bucket))
        except CacheError:
            return

    wanting = [threading.Thread(target=want) for _ in range(4)]
    for thread in wanting:
        thread.start()
    for thread in wanting:
        thread.join()
    assert len(found) == 1
    assert found[0].is_held()
    found[0].release()
    assert bucket.keys() == []


def test_who_lost_it_leaves_the_others_alone(bucket: Bucket, tmp_path: Path) -> None:
    held = acquire(bucket)
    leave(bucket, token="other")
    time.sleep(0.2)
    assert not held.is_held()
    other = bucket.get(".writer")
    held.release()
    assert bucket.get(".writer") == other
