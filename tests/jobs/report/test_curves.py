"""The picture of a comparison: every group in its colour, the same bytes for the same runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
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


@pytest.mark.parametrize(
    "backend", ["nonsense", pytest.param("module://matplotlib_inline.backend_inline", marks=pytest.mark.long)]
)
def test_no_other_backend_is_looked_for(tmp_path: Path, backend: str) -> None:
    command = ["compare", str(write_run(tmp_path / "ce", [1.5])), "--picture", str(tmp_path / "curves.png")]
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *command],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "") and (tmp_path / "curves.png").is_file()


@pytest.mark.parametrize("step", [1, 3, 30, 12_000])
def test_an_axis_of_steps_has_whole_steps(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "ce", [1.5], steps=step)
    (run / "metrics.jsonl").write_text(f'{{"step": {step}, "bits_per_byte": 1.5, "nats_per_token": 3.0}}\n')
    ticks: list[float] = []
    save = Figure.savefig

    def look_and_save(figure: Figure, *arguments: object, **settings: object) -> None:
        low, high = figure.axes[0].get_xlim()
        ticks.extend(tick for tick in figure.axes[0].get_xticks() if low <= tick <= high)
        save(figure, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", look_and_save)
    compare_runs([run], tmp_path / "curves.png")
    assert ticks and all(tick == int(tick) for tick in ticks)
