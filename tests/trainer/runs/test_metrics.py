"""metrics.jsonl: what is written is read back, and a resumed run begins where its checkpoint ends."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from schemas.errors import RunError
from trainer.runs.metrics import MetricsLog, read_metrics


def write(run: Path, first: int, last: int, done: int) -> None:
    with MetricsLog(run, done) as log:
        for step in range(first, last + 1):
            log.write(step, {"loss": step / 4}, {"tokens_per_second": 100.0 * step})


def test_lines_hold_steps_and_values_and_events_hold_what_depends_on_the_clock_too(tmp_path: Path) -> None:
    write(tmp_path, 1, 3, done=0)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines == ['{"step": 1, "loss": 0.25}', '{"step": 2, "loss": 0.5}', '{"step": 3, "loss": 0.75}']
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss", "tokens_per_second"]
    assert [(event.step, event.value) for event in events.Scalars("tokens_per_second")] == [
        (1, 100.0),
        (2, 200.0),
        (3, 300.0),
    ]


def test_a_resumed_run_drops_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 1, 5, done=0)
    write(tmp_path, 4, 6, done=3)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in read_metrics(tmp_path)] == [step / 4 for step in range(1, 7)]


def test_a_run_from_its_beginning_drops_all(tmp_path: Path) -> None:
    write(tmp_path, 1, 5, done=0)
    write(tmp_path, 1, 2, done=0)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_a_line_cut_by_a_crash_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, done=0)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    write(tmp_path, 3, 3, done=2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["nonsense\n", "[1]\n", '{"loss": 1}\n', '{"step": "x"}\n', '{"step": NaN}\n', "[" * 9999 + "\n"]
)
def test_damage_in_a_whole_line_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n' + text)
    with pytest.raises(RunError, match=r"metrics\.jsonl:2 is damaged"):
        read_metrics(tmp_path)


def test_steps_that_go_back_are_damage(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 3, "loss": 1.0}\n{"step": 3, "bits_per_byte": 1.0}\n{"step": 2}\n'
    )
    with pytest.raises(RunError, match=r"metrics\.jsonl:3 is damaged: step 2 stands after step 3"):
        read_metrics(tmp_path)


def test_no_run_no_metrics(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is .* the folder of a training run\?"):
        read_metrics(tmp_path)
