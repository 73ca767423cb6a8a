"""`stillroom diff`: fields, samples and numbers, against what was changed by hand."""

from pathlib import Path

import numpy as np
import pytest

from jobs.diff import show_difference
from schemas.cache.reader import Cache
from tests.caches import build_cache, extraction, smallest_cache, write_corpus
from tests.encoded import encode_cache
from tests.tiny import TEXTS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallest_cache(tmp_path_factory.mktemp("diff"), 6, 30).parent


def row(said: str, what: str) -> list[str]:
    """The cells of a table's row behind its name."""
    (line,) = (line for line in said.splitlines() if line.startswith(f"│ {what} "))
    return [cell.strip() for cell in line.split("│")[2:-1] if cell.strip()]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def other(made: Path, name: str, texts: list[str], states: dict[str, object]) -> Path:
    corpus = write_corpus(made / f"{name}.jsonl", texts)
    return build_cache(extraction(made / name, made / "teacher", corpus, states=states, batching={"unit_tokens": 90}))


def test_a_cache_does_not_differ_from_itself(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not show_difference(made / "cache", made / "cache")
    said = capsys.readouterr().out
    assert "6 samples are in both, 0 in" in said and said.splitlines()[-1] == "they hold the same"


def test_settings_samples_and_rows_are_told_apart(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two samples more, one text another, other units."""
    texts = [*TEXTS[:2], "Another text.", *TEXTS[3:8]]
    second = other(made, "more", texts, {"hidden": [0, 1], "mass": [1]})
    assert show_difference(made / "cache", second)
    said = capsys.readouterr().out
    assert "6 samples are in both, 0 in" in said and f"2 in {second} alone" in said
    assert f"batching.unit_tokens: {made / 'cache'} has 30, {second} has 90" in said
    assert f"states: hidden/0 is in {second} alone" in said
    assert row(said, "texts, tokens and spans") == ["6", "1"]
    first, changed = (Cache(path).sample(2) for path in (made / "cache", second))
    # Other batches may round otherwise, too.
    assert int(row(said, "hidden/1")[1]) >= max(len(first.token_ids), len(changed.token_ids))
    assert said.splitlines()[-1] == "they differ"


def test_the_largest_difference_is_that_of_the_numbers(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bfloat16 beside float32, and int8, whose rows are decoded first."""
    rounded = other(made, "rounded", TEXTS[:6], {"hidden": [1], "mass": [1], "dtype": "bfloat16", "encoding": "exact"})
    exact = other(made, "exact", TEXTS[:6], {"hidden": [1], "mass": [1], "dtype": "float32"})
    capsys.readouterr()
    assert show_difference(rounded, exact)
    said = capsys.readouterr().out
    left, right = Cache(rounded), Cache(exact)
    array = [cache.arrays_of("hidden")[0] for cache in (left, right)]
    gaps, sizes = [], []
    for position in range(6):
        (bits,), (truth,) = left.states(position, [array[0]]), right.states(position, [array[1]])
        numbers = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        gaps.append(np.abs(numbers - truth).max())
        sizes.append(max(np.abs(numbers).max(), np.abs(truth).max()))
    line = row(said, array[0].path)
    assert line[-2:] == [f"{max(gaps):.3g}", f"{max(gaps) / max(sizes):.3g}"]
    encoded = encode_cache(exact, made / "int8", "int8")
    assert show_difference(exact, encoded)
    assert 0 < float(row(capsys.readouterr().out, array[1].path)[-1]) < 0.005
