"""The picture of a comparison: every group in its colour, the same bytes for the same runs."""

from pathlib import Path

from PIL import Image

from jobs.compare import compare_runs
from tests.jobs.report.run_folders import write_run


def test_the_picture_shows_every_group_in_its_colour(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"sra-{i}", [2.0, 1.5, 1.1 + i / 10], seed=i) for i in range(2)]
    runs.append(write_run(tmp_path / "ce", [2.5, 2.0, 1.4], batch_size=8))
    compare_runs(runs, tmp_path / "plots" / "curves.png", {"teacher": 0.9})
    with Image.open(tmp_path / "plots" / "curves.png") as image:
        assert image.size == (1200, 750)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x77, 0x77, 0x77)} <= colours
    first = (tmp_path / "plots" / "curves.png").read_bytes()
    compare_runs(runs, tmp_path / "plots" / "curves.png", {"teacher": 0.9})
    assert (tmp_path / "plots" / "curves.png").read_bytes() == first
