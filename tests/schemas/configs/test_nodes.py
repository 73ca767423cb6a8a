"""YAML that would lose something in silence, or never end, is refused before values are made of it."""

import time

import pytest
import yaml

from schemas.configs.nodes import MOST_VALUES, check_nodes
from schemas.errors import ConfigError


def check(text: str, loader: type = yaml.SafeLoader) -> None:
    check_nodes(yaml.compose(text, Loader=loader), "a.yaml")


def test_what_is_sound_passes() -> None:
    check("")
    check("a: &x [1, {b: 2}]\nc: *x\nd: *x\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", r"^a\.yaml:3: 'a' is given twice \(first on line 1\)$"),
        ("x:\n  - {a: 1, a: 2}\n", r"^a\.yaml:2: 'a' is given twice \(first on line 2\)$"),
        ("1: a\n'1': b\n", r"^a\.yaml:2: '1' is given twice \(first on line 1\)$"),
        ("a: 1\n? {b: 1}\n: 2\n", r"^a\.yaml:2: a key is one word, this is a mapping$"),
        ('a: 1\nb: ["x\\0y"]\n', r"^a\.yaml:2: '.*' holds a zero byte, which no text or path of a config can hold$"),
        ('a: "\\ud800"\n', r"^a\.yaml:1: '.*' holds an unpaired surrogate, \\ud800, at character 0: "),
        ('"\\ud800": 1\n', r"^a\.yaml:1: '.*' holds an unpaired surrogate"),
    ],
)
def test_what_would_be_lost_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(text)


def test_values_are_counted_with_aliases_unfolded() -> None:
    """Lists of 10 of the one before: the n-th stands for (10^(n + 1) - 1) / 9 values. The bound is met exactly."""
    lists = ["&a0 [" + ", ".join("x" * 10) + "]"]
    lists += [f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    most = "".join(f"k{n}: {text}\n" for n, text in enumerate(lists[:4]))  # 1 + 11 + 111 + 1,111 + 11,111 values
    rest = MOST_VALUES - 12_345 - 1
    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same nodes
    check(most + "rest: [" + "1, " * rest + "]\n", quick)
    with pytest.raises(ConfigError, match=r"^a\.yaml holds more than 100,000 values, with its aliases unfolded; write"):
        check(most + "rest: [" + "1, " * (rest + 1) + "]\n", quick)
    started = time.process_time()
    with pytest.raises(ConfigError, match="more than 100,000 values"):
        check("".join(f"k{n}: {text}\n" for n, text in enumerate(lists)))
    assert time.process_time() - started < 1


def test_an_alias_within_its_own_anchor_has_no_end() -> None:
    with pytest.raises(RecursionError):
        check("a: &x [1, [*x]]\n")
