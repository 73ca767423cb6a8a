import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from jobs.compare import compare_runs, show_comparison
from jobs.report.runs import group_runs, load_run
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.storage.file_record import FileRecord
from trainer.runs.folder import NOT_IDENTITY, RunRecord

STEPS = (10, 20, 30)


def write_run(
    folder: Path, values: list[float], finished: bool = True, fingerprint: str = "a" * 64, **changes: Any
) -> Path:
    folder.mkdir(parents=True)
    given = {"cache": "c", "output": str(folder), "student": {"model": "m"}, "steps": 30} | changes
    config = TrainingConfig.model_validate(given)
    identity = config.model_dump(mode="json", exclude=NOT_IDENTITY)
    model = {"config.json": FileRecord(bytes=2, sha256="0" * 64)} if finished else None
    record = RunRecord(fingerprint=fingerprint, identity=identity, steps=30, finished=finished, model=model)
    (folder / "run.json").write_text(record.model_dump_json())
    lines: list[dict[str, float]] = []
    for step, value in zip(STEPS, values, strict=False):
        lines += [
            {"step": step, "loss": 3.0, "lr": 1e-3},
            {"step": step, "bits_per_byte": value, "nats_per_token": 2 * value},
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


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


def test_other_caches_and_unfinished_runs_are_marked(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [2.0, 1.9, 1.8])
    two = write_run(tmp_path / "two", [2.0, 1.7], finished=False, fingerprint="b" * 64)
    table = compare_runs([one, two])
    assert shown(table) == [
        ["two (unfinished)", "1", "20", "1.7000", "", "3.4000", "b" * 12],
        ["one", "1", "30", "1.8000", "", "3.6000", "a" * 12],
    ]
    assert "different caches" in str(table.caption)


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
    unevaluated = write_run(tmp_path / "bare", [])
    with pytest.raises(RunError, match="bare was never evaluated"):
        compare_runs([unevaluated])
    damaged = write_run(tmp_path / "damaged", [1.0])
    (damaged / "metrics.jsonl").write_text('{"step": 10, "bits_per_byte": null, "nats_per_token": 1.0}\n')
    with pytest.raises(RunError, match=r"damaged/metrics\.jsonl is damaged"):
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
