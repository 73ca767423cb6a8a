"""Costs of shards as one row."""

from rich.console import Console

from jobs.report.costs import costs_table
from schemas.cache.encoding_cost import EncodingCost


def said(*costs: EncodingCost) -> str:
    console = Console(width=150)
    with console.capture() as captured:
        console.print(costs_table([("hidden/3", costs)]))
    return captured.get()


ONE = EncodingCost(rows=300, raw=3, bits=2.0, measured=100, cosine=0.9, geometry=0.1, predicted=30)
ONE = ONE.model_copy(update={"kl_mean": 0.02, "kl_p99": 0.1, "kl_worst": 2.0})
TWO = EncodingCost(rows=100, raw=0, bits=4.0, measured=100, cosine=0.8, geometry=0.2, predicted=10)
TWO = TWO.model_copy(update={"kl_mean": 0.06, "kl_p99": 0.3, "kl_worst": 1.0})
EMPTY = EncodingCost(rows=0, raw=0, bits=0, measured=0)


def cells(*costs: EncodingCost) -> list[str]:
    row = next(line for line in said(*costs).splitlines() if "hidden/3" in line)
    return [cell.strip() for cell in row.split("│")[1:-1]]


def test_shards_weigh_as_their_rows_do_and_the_worst_is_the_worst() -> None:
    numbers = ["2.50", "3 (0.75%)", "0.0300", "0.150", "2.00", "15.0%", "0.8500"]
    assert cells(ONE, TWO, EMPTY) == ["hidden/3", *numbers]
    words = " ".join(said(ONE, TWO, EMPTY).split())
    assert "of up to 40 states" in words and "of up to 200 states" in words


def test_inner_layers_have_no_divergence_and_few_rows_no_geometry() -> None:
    inner = EncodingCost(rows=10, raw=0, bits=1.0, measured=10, cosine=0.9)
    assert cells(inner) == ["hidden/3", "1.00", "0", "", "", "", "", "0.9000"]
    assert cells(EMPTY)[1:] == [""] + ["0"] + [""] * 5


def test_what_is_little_is_not_shown_as_nothing() -> None:
    packed = ONE.model_copy(update={"kl_mean": 1.9e-5, "kl_p99": 0.0, "kl_worst": 1.7e-4})
    assert cells(packed)[3:6] == ["2e-05", "0.000", "2e-04"]
