"""metrics.jsonl: what is written is read back, and a resumed run begins where its checkpoint ends."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from schemas.errors import RunError
from trainer.runs.metrics import WAY_OUT, MetricsLog, read_metrics


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
    ("text", "said"),
    [
        ("nonsense", "Expecting value"),
        ("", "Expecting value"),
        ("[1]", "not an object with a whole number as `step`"),
        ('{"loss": 1}', "not an object with a whole"),
        ('{"step": "x"}', "not an object with a whole"),
        ('{"step": NaN}', "not an object with a whole"),
        ('{"step": true}', "not an object with a whole"),
        ('{"step": -1}', "not an object with a whole"),
        ("[" * 9999, "maximum recursion"),
        ('{"step": 2, "bits_per_byte": NaN}', r"'bits_per_byte' is nan, and a number up to 1e\+100 is wanted"),
        ('{"step": 2, "bits_per_byte": -Infinity}', "'bits_per_byte' is -inf, "),
        ('{"step": 2, "loss": 1e308}', r"'loss' is 1e\+308, "),
        ('{"step": 2, "loss": 1' + "0" * 400 + "}", "'loss' is 1000"),
        ('{"step": 2, "sra/cos": 1' + "0" * 400 + "}", "'sra/cos' is 1000"),
        ('{"step": 2, "loss": 1' + "0" * 5000 + "}", "Exceeds the limit"),
        ('{"step": 2, "loss": "2.0"}', "'loss' is '2.0', "),
        ('{"step": 2, "loss": true}', "'loss' is True, "),
        ('{"step": 2, "loss": null}', "'loss' is None, "),
        ('{"step": 2, "loss": 1, "loss": 2}', "a key is given twice"),
        ('{"step": 1, "loss": 2.0}', "step 1 has 'loss' twice"),
        ('{"step": 10, "loss": 2.0}', "step 10 is beyond the run's 9"),
        ('{"step": 1' + "0" * 400 + "}", "'step' is 1000"),
    ],
)
def test_damage_in_a_whole_line_is_named_with_the_way_out(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 1.0}}\n{text}\n')
    with pytest.raises(RunError, match=rf"metrics\.jsonl:2 is damaged: {said}.*; {WAY_OUT}$"):
        read_metrics(tmp_path, 9)
    with pytest.raises(RunError, match=r"metrics\.jsonl:2 is damaged: "):
        MetricsLog(tmp_path, 1, 9)
    assert (tmp_path / "metrics.jsonl").read_text() == f'{{"step": 1, "loss": 1.0}}\n{text}\n'


def test_a_term_that_is_reported_alone_may_be_no_number(tmp_path: Path) -> None:
    """One of weight 0; runs that an earlier version began have it in their lines."""
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, {"loss": 1.0, "sra/cos": float("nan"), "kd/kl": float("inf")})
    (line,) = read_metrics(tmp_path, 1)
    assert line["loss"] == 1.0 and line["sra/cos"] != line["sra/cos"] and line["kd/kl"] == float("inf")


def test_steps_that_go_back_are_damage(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 3, "loss": 1.0}\n{"step": 3, "bits_per_byte": 1.0}\n{"step": 2}\n'
    )
    with pytest.raises(RunError, match=r"metrics\.jsonl:3 is damaged: step 2 stands after step 3"):
        read_metrics(tmp_path)


def test_no_run_no_metrics(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is .* the folder of a training run\?"):
        read_metrics(tmp_path)
