"""Folders as a table's first column shows them."""

from pathlib import Path

from jobs.report.names import short_names, shorten


def test_names_lose_what_all_share_and_their_middle() -> None:
    assert short_names([Path("runs/a/x"), Path("runs/a/y")]) == ["x", "y"]
    assert short_names([Path("/models/one"), Path("/runs/two/model")]) == ["models/one", "runs/two/model"]
    assert short_names([Path("some/model")]) == ["some/model"]
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcde…hijk"


def test_names_that_would_look_alike_are_shown_whole() -> None:
    one, two = "a" * 30 + "1" + "b" * 30, "a" * 30 + "2" + "b" * 30
    assert short_names([Path("a-run-of-many-words-1e-3"), Path("a-run-of-many-words-2e-3")], 10) == ["…1e-3", "…2e-3"]
    assert short_names([Path("x") / one, Path("x") / two], width=20) == [one, two]
