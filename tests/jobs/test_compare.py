import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.compare import compare_runs, show_comparison
from schemas.errors import RunError
from tests.jobs.report.run_folders import write_run


def shown(table: Any) -> list[list[str]]:
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def test_seeds_become_one_row_with_their_spread(tmp_path: Path) -> None:
    finals = [1.10, 1.30, 1.25]
    runs = [write_run(tmp_path / f"sra-seed{i}", [2.0, 1.5, final], seed=i) for i, final in enumerate(finals)]
    runs.append(write_run(tmp_path / "ce", [2.5, 2.0, 1.4], batch_size=8))
    table = compare_runs(runs, references={"teacher": 0.9})
    mean, std = statistics.fmean(finals), statistics.stdev(finals)
    assert [column.header for column in table.columns] == ["run", "seeds", "step", "bits/byte", "± std", "nats/token"]
    assert shown(table) == [
        ["teacher", "", "", "0.9000", "", ""],
        ["sra", "3", "30", f"{mean:.4f}", f"{std:.4f}", f"{2 * mean:.4f}"],
        ["ce", "1", "30", "1.4000", "", "2.8000"],
    ]


def write_encoder_run(folder: Path, value: float, seed: int) -> Path:
    student = {"kind": "encoder", "model": "m"}
    write_run(folder, [], student=student, objective=[{"loss": "talas"}], seed=seed)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 30, "spearman": value}) + "\n")
    return folder


def test_sentence_encoders_are_ranked_by_spearman_the_highest_first(tmp_path: Path) -> None:
    runs = [write_encoder_run(tmp_path / f"talas-{seed}", value, seed) for seed, value in enumerate([73.25, 74.75])]
    table = compare_runs(runs, tmp_path / "curves.png", references={"teacher": 86.72, "untrained": 59.48})
    assert [column.header for column in table.columns] == ["run", "seeds", "step", "Spearman", "± std"]
    assert [row[0] for row in shown(table)] == ["teacher", "talas", "untrained"]
    assert shown(table)[1] == ["talas", "2", "30", "74.00", "1.06"]
    assert (tmp_path / "curves.png").stat().st_size > 0
    with pytest.raises(RunError, match=r"measured by spearman, .* by bits_per_byte"):
        compare_runs([runs[0], write_run(tmp_path / "ce", [1.0])])


def test_other_caches_and_unfinished_runs_are_marked(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [2.0, 1.9, 1.8])
    two = write_run(tmp_path / "two", [2.0, 1.7], finished=False, fingerprint="b" * 64)
    table = compare_runs([one, two])
    assert shown(table) == [
        ["two (unfinished)", "1", "20", "1.7000", "", "3.4000", "b" * 12],
        ["one", "1", "30", "1.8000", "", "3.6000", "a" * 12],
    ]
    assert "different caches" in str(table.caption)


def test_other_material_is_noted_and_its_seeds_are_not_averaged(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"evaluation": {"texts": "held.jsonl"}}
    runs = [
        write_run(tmp_path / f"ce-{seed}", [2.0, 1.0 + seed], seed=seed, held_out=held_out, **asked)
        for seed, held_out in enumerate(["c" * 64, "c" * 64, "d" * 64])
    ]
    table = compare_runs(runs)
    assert [row[1:4] for row in shown(table)] == [["2", "20", "1.5000"], ["1", "20", "3.0000"]]
    assert str(table.caption).startswith("Not all of these runs are known to have been measured on the same held-out")
    assert compare_runs(runs[:2]).caption is None
    old = [write_run(tmp_path / "old" / f"ce-{seed}", [1.0], seed=seed, **asked) for seed in range(2)]
    assert [row[1] for row in shown(compare_runs(old))] == ["2"] and compare_runs(old).caption is None
    elsewhere = write_run(tmp_path / "old" / "kd-0", [1.0], evaluation={"texts": "other.jsonl"})
    for unknown in ([old[0], runs[0]], [old[0], elsewhere]):
        table = compare_runs(unknown)
        assert len(shown(table)) == 2 and "Not all of these runs are known" in str(table.caption)


def test_a_runs_name_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither Rich's, nor its emoji, nor matplotlib's formulas."""
    run, picture = write_run(tmp_path / r"[/b] :cat: $\x$", [1.0]), tmp_path / "[red]" / "curves.png"
    show_comparison([run], picture)
    shown = capsys.readouterr().out
    assert run.name in shown and str(picture) in shown.replace("\n", "")
    assert picture.is_file() and list(picture.parent.iterdir()) == [picture]


def test_bad_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no runs to compare"):
        compare_runs([])
    with pytest.raises(RunError, match=r"none is not the folder of a training run"):
        compare_runs([tmp_path / "none"])
    write_run(tmp_path / "runs" / "ce", [1.0])
    with pytest.raises(
        RunError, match=r"runs is not the folder of a training run, but runs lie in it: name .*/runs/\*$"
    ):
        compare_runs([tmp_path / "runs"])
    unevaluated = write_run(tmp_path / "bare", [])
    with pytest.raises(RunError, match="bare was never evaluated"):
        compare_runs([unevaluated])
    table = compare_runs([unevaluated, tmp_path / "runs" / "ce"])
    assert (
        f"Left out: {unevaluated} was never evaluated: give its config" in str(table.caption) and table.row_count == 1
    )
    foreign = write_run(tmp_path / "foreign", [], evaluation={"texts": "held.txt", "metric": "warmth"})
    said = (
        r"foreign is measured by 'warmth', which no installed package brings; "
        r"known metrics: bits_per_byte, spearman, target_bits_per_byte$"
    )
    with pytest.raises(RunError, match=said):
        compare_runs([foreign])
    damaged = write_run(tmp_path / "damaged", [1.0])
    (damaged / "metrics.jsonl").write_text('{"step": 10, "bits_per_byte": null, "nats_per_token": 1.0}\n')
    with pytest.raises(RunError, match=r"damaged/metrics\.jsonl:1 is damaged: 'bits_per_byte' is None, and a"):
        compare_runs([damaged])
    newer = write_run(tmp_path / "newer", [1.0])
    (newer / "run.json").write_text((newer / "run.json").read_text().replace('"version":2', '"version":3'))
    with pytest.raises(RunError, match=r"newer/run\.json"):
        compare_runs([newer])
    copies = [write_run(tmp_path / name, [1.0], seed=3) for name in ("z-0", "z-1")]
    with pytest.raises(RunError, match=r"z-0 and .*z-1 are the same run, seed 3 included"):
        compare_runs(copies)
    apart = [write_run(tmp_path / "y-0", [1.0]), write_run(tmp_path / "y-1", [1.0], seed=1)]
    (apart[1] / "metrics.jsonl").write_text('{"step": 5, "bits_per_byte": 1.0, "nats_per_token": 1.0}\n')
    with pytest.raises(RunError, match="never evaluated at the same step"):
        compare_runs(apart)


def test_the_table_is_legible_in_80_columns(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"sra-seed{i}", [2.0, 1.5, 1.1], seed=i) for i in range(2)]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(compare_runs(runs))
    assert "1.1000" in console.export_text()
