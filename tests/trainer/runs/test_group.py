"""One of several ranks: what it needs of its start, and whose words end a run."""

from typing import Any

import pytest
import torch.distributed as dist

from schemas.configs.training import TrainingConfig
from schemas.errors import CacheError, RunError
from trainer.optimisation.ranks import ALONE, Ranks
from trainer.runs.group import LOST, NAMED, Failure, OtherRankFailed, _one_message, joined, speaks, tell, told

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4321"


def settings(**changes: Any) -> TrainingConfig:
    base: dict[str, Any] = {"cache": "c", "output": "o", "student": {"model": "m"}, "steps": 9, "device": "cpu"}
    return TrainingConfig.model_validate(base | changes)


def store() -> Any:
    return dist.HashStore()  # type: ignore[attr-defined]


def as_rank(patch: pytest.MonkeyPatch, rank: int, size: int) -> None:
    for name, value in zip(NAMED, (rank, size, "127.0.0.1", 1), strict=True):
        patch.setenv(name, str(value))


def test_a_process_that_nobody_started_as_a_rank_is_alone() -> None:
    with joined(settings()) as ranks:
        assert ranks == ALONE
    assert speaks()


def test_one_rank_is_a_group_of_its_own_and_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    as_rank(monkeypatch, 0, 1)
    monkeypatch.setenv("MASTER_PORT", str(kept.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    for _ in range(2):
        with joined(settings()) as ranks:
            assert ranks == Ranks(0, 1) and dist.is_initialized()
        assert not dist.is_initialized()


def test_the_config_asks_for_as_many_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 1, 2)
    assert not speaks()
    with pytest.raises(RunError, match="devices is 3, and 2 ranks were started"), joined(settings(devices=3)):
        pass


def test_the_first_to_fail_is_heard_and_the_others_add_nothing() -> None:
    shared = store()
    with pytest.raises(RunError, match=r"^sample s3 has no text$"), _one_message(shared, Ranks(1, 2)):
        raise RunError("sample s3 has no text")
    assert str(told(shared)) == "rank 1 of 2: sample s3 has no text" and told(shared) == told(shared, 1)
    with pytest.raises(OtherRankFailed, match=r"^rank 1 of 2: sample s3"), _one_message(shared, Ranks(0, 2)):
        raise RuntimeError(GLOO)
    assert told(shared, 0) == LOST


def test_what_all_refuse_alike_names_no_rank() -> None:
    """Of two that refuse, one speaks; the process that started them finds what both have said."""
    shared, words = store(), "/c is not a stillroom cache"
    assert told(shared) is None
    with pytest.raises(CacheError, match=f"^{words}$"), _one_message(shared, Ranks(1, 2)):
        raise CacheError(words)
    with pytest.raises(OtherRankFailed, match=f"^{words}$"), _one_message(shared, Ranks(0, 2)):
        raise CacheError(words)
    assert told(shared, 0) == Failure(words, "CacheError", "rank 0 of 2: ")
    assert told(shared, 1) == told(shared) == Failure(words, "CacheError", "rank 1 of 2: ")


def test_a_rank_that_ended_without_a_word_is_told_of_once() -> None:
    shared = store()
    with pytest.raises(RunError, match="another rank ended without a word") as first, _one_message(shared, Ranks(0, 3)):
        try:
            raise RuntimeError(GLOO)
        except RuntimeError as error:
            raise RunError("the model failed over a batch") from error
    assert not isinstance(first.value, OtherRankFailed)
    assert tell(shared, Failure("anything else"), 2) == LOST
    assert told(shared, 2) == Failure("anything else")


def test_alone_an_error_is_what_it_is() -> None:
    with pytest.raises(KeyError, match="a bug"), _one_message(store(), ALONE):
        raise KeyError("a bug")


def test_an_error_of_the_program_keeps_its_traceback_and_names_itself_to_the_others() -> None:
    shared = store()
    with pytest.raises(KeyError), _one_message(shared, Ranks(1, 2)):
        raise KeyError("a bug")
    assert told(shared) == Failure("KeyError: 'a bug'", "RunError", "rank 1 of 2: ")
