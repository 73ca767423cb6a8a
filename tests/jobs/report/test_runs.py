"""Runs as a comparison reads them: names without seeds, groups that differ in nothing else."""

from pathlib import Path

import pytest

from jobs.report.runs import group_runs, load_run
from tests.jobs.report.run_folders import write_run


def test_anything_but_the_seed_makes_another_row(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a" / "ce-0", [2.0, 1.9, 1.8], seed=0),
        write_run(tmp_path / "b" / "ce-0", [2.0, 1.9, 1.7], seed=0, optimizer={"lr": 0.1}),
        write_run(tmp_path / "a" / "ce-1", [2.0, 1.9, 1.6], seed=1, checkpoint_every=7),
    ]
    groups = group_runs([load_run(run) for run in runs])
    assert [(group.name, [run.folder.name for run in group.runs]) for group in groups] == [
        ("b/ce", ["ce-0"]),
        ("a/ce", ["ce-0", "ce-1"]),
    ]
    # Named twice is still one run.
    assert len(group_runs([load_run(runs[0]), load_run(runs[0])])[0].runs) == 1


def test_no_two_rows_have_one_name(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "ce", tmp_path / "a" / "ce-1", tmp_path / "b" / "ce-1", tmp_path / "b" / "kd-0"]
    runs = [load_run(write_run(folder, [value], batch_size=1 + value)) for value, folder in enumerate(folders)]
    assert [group.name for group in group_runs(runs)] == ["ce", str(folders[1].resolve()), "b/ce", "kd"]
    assert [group.name for group in group_runs(runs[:2])] == ["ce", "ce-1"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("sra-seed1", "sra"),
        ("sra_s12", "sra"),
        ("ce.3", "ce"),
        ("ce-kd-0", "ce-kd"),
        ("top3", "top3"),
        ("7", "7"),
        ("mta", "mta"),
    ],
)
def test_names_lose_their_seed(tmp_path: Path, folder: str, name: str) -> None:
    assert load_run(write_run(tmp_path / folder, [1.0])).name == name


def test_curves_meet_where_all_seeds_were_measured(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "x-0", [3.0, 2.0, 1.0]),
        write_run(tmp_path / "x-1", [2.0, 1.0], seed=1, finished=False),
    ]
    (group,) = group_runs([load_run(run) for run in runs])
    steps, means, spreads = group.curve
    assert steps == [10, 20]
    assert means == [2.5, 1.5]
    assert spreads == pytest.approx([2**-0.5, 2**-0.5])
