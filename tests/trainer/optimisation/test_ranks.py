"""What two real processes tell each other, and that one alone needs nobody."""

from typing import Any

from trainer.optimisation.ranks import ALONE, Ranks


def test_every_rank_hears_all_in_the_order_of_ranks(exchanged: dict[str, Any]) -> None:
    assert exchanged["gathered"] == [{"from": 0, "long": "x" * 5}, {"from": 1, "long": "x" * 305}]
    assert exchanged["first"] == "of 0"


def test_what_the_first_refuses_all_refuse_in_its_words(exchanged: dict[str, Any]) -> None:
    missing = "No such file or directory"
    assert exchanged["refused"] == [
        [["CacheError", "the cache is busy"]] * 2,
        [["FileNotFoundError", f"[Errno 2] {missing}: '/x'"], ["RunError", f"cannot read or write /x: {missing}"]],
    ]


def test_values_are_summed_to_the_last_digit_and_a_rank_may_lack_one(exchanged: dict[str, Any]) -> None:
    assert exchanged["sum"] == {"both": (0.1 + 0.2) + (0.1 + 0.2 + 1), "only 0": 1.0, "only 1": 1.0}


def test_shares_take_turns_and_make_up_the_batch(exchanged: dict[str, Any]) -> None:
    assert exchanged["shares"] == [[[0, 2, 4], [7]], [[1, 3], []]]


def test_a_rank_alone_needs_no_group() -> None:
    assert Ranks.here() == ALONE and ALONE.is_first
    assert ALONE.gather([1]) == [[1]] and ALONE.sum({"a": 2}) == {"a": 2} and ALONE.share([3, 4]) == [3, 4]
