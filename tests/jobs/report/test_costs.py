"""Costs of shards as one row."""

from rich.console import Console

from jobs.report.costs import costs_table
from schemas.cache.encoding_cost import EncodingCost


def said(*costs: EncodingCost) -> str:
    console = Console(width=150)
    with console.capture() as captured:
        console.print(costs_table([("hidden/3", costs)]))
    return captured.get()


def test_shards_weigh_as_their_rows_do_and_the_worst_is_the_worst() -> None:
    one = EncodingCost(
        rows=300,
        raw=3,
        bits=2.0,
        measured=100,
        cosine=0.9,
        geometry=0.1,
        predicted=30,
        kl_mean=0.02,
        kl_p99=0.1,
        kl_worst=2,
    )
    two = EncodingCost(
        rows=100,
        raw=0,
        bits=4.0,
        measured=100,
        cosine=0.8,
        geometry=0.2,
        predicted=10,
        kl_mean=0.06,
        kl_p99=0.3,
        kl_worst=1,
    )
    empty = EncodingCost(rows=0, raw=0, bits=0, measured=0)
    row = next(line for line in said(one, two, empty).splitlines() if "hidden/3" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        *("hidden/3", "2.50", "3 (0.75%)", "0.0300", "0.150", "2.00", "15.0%", "0.8500"),
    ]


def test_inner_layers_have_no_divergence() -> None:
    inner = EncodingCost(rows=10, raw=0, bits=1.0, measured=10, cosine=0.9, geometry=0.1)
    row = next(line for line in said(inner).splitlines() if "hidden/3" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][2:6] == ["0", "", "", ""]
