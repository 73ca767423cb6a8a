"""What a user gave stands in a message short, on one line, and harmless."""

import pytest

from schemas.shown import counted, harmless, listed, percent, printable, quoted


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


def test_a_text_keeps_everything_but_what_a_terminal_obeys() -> None:
    kept = "漢\u3000字\xa0é\n\tعَ\u200cب 👩\u200d💻\xad"
    assert harmless(kept) == kept and harmless("y" * 100_000) == "y" * 100_000
    assert harmless("a\x1b]0;t\x07\r\x9b\u202e\u2066\u2028\ud800") == r"a\x1b]0;t\x07\r\x9b\u202e\u2066\u2028\ud800"


def test_a_share_is_all_only_where_nothing_is_missing() -> None:
    shares = [0, 0.4996, 0.9989, 49_136 / 49_152, 1 - 1e-12, 1]
    assert [percent(share) for share in shares] == ["0.0%", "50.0%", "99.9%", "99.9%", "99.9%", "100.0%"]


@pytest.mark.parametrize(
    ("amount", "said"),
    [(1, "1 shard"), (1.0, "1 shard"), (0.5, "0.5 shards"), (1_200, "1,200 shards")],
)
def test_a_noun_follows_its_number(amount: float, said: str) -> None:
    assert counted(amount, "shard") == said
