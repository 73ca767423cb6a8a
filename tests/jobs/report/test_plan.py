"""The table of what a cache will take on disk."""

from pathlib import Path

from rich.console import Console

from jobs.report.plan import sizes_table
from pipeline.request.request import make_request
from tests.caches import encoded_extraction


def test_measured_sizes_stand_in_the_place_of_foreseen_ones(tmp_path: Path) -> None:
    request = make_request(encoded_extraction(tmp_path))
    rows = dict.fromkeys(("hidden/1", "hidden/3", "mass/3"), 1000)
    console = Console(width=200)
    with console.capture() as written:
        console.print(sizes_table(request, rows, {"hidden/1": 10_000, "hidden/3": 20_000, "mass/3": 4_000}))
    lines = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in written.get().splitlines() if "│" in line
    ]
    assert [line[:4] for line in lines] == [
        ["hidden/1", "1,000", "10.0 kB", "64.0 kB"],
        ["hidden/3", "1,000", "20.0 kB", "64.0 kB"],
        ["mass/3", "1,000", "4.0 kB", ""],
        ["all", "", "34.0 kB", "132.0 kB"],
    ]
    assert "measured" in written.get()
