"""What a user gave stands in a message short, on one line, and harmless."""

from schemas.shown import listed, printable, quoted


def test_values_are_shortened_and_escaped() -> None:
    assert quoted("a\x1b[31m\n\ud800é") == r"'a\x1b[31m\n\ud800é'"
    assert quoted("x" * 1000) == f"'{'x' * 40}'…'{'x' * 20}' (1,000 characters)"
    assert quoted(1.5) == "1.5" and quoted(None) == "None"
    assert len(quoted(list(range(10_000)))) < 100
    assert quoted(10**5000) == "a int that is too long to be shown"


def test_names_are_listed_up_to_a_dozen() -> None:
    assert listed([]) == "none" and listed(["a", 1]) == "'a', 1"
    assert listed(range(1_015)).endswith("11, and 1,003 others")


def test_a_message_keeps_its_lines_and_nothing_that_a_terminal_obeys() -> None:
    assert printable("one\ntwo é 漢\x1b]0;title\x07\x9b\r\u202e\ud800\udc80") == (
        r"one" "\n" r"two é 漢\x1b]0;title\x07\x9b\r\u202e\ud800\udc80"
    )
    assert len(printable("y" * 100_000)) < 2_000
