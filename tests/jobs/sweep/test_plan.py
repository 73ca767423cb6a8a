"""Every run of a sweep is judged before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from jobs.sweep.plan import plan_sweep
from schemas.errors import ConfigError
from tests.jobs.sweep.sweeps import base, write_sweep

GRID: dict[str, Any] = {"optimizer.lr": ["1e-2", 3e-3], "objective.sra.cos": [0, 1]}


def planned(folder: Path, config: dict[str, Any], *overrides: str) -> list[str]:
    return [run.name for run in plan_sweep(write_sweep(folder / "sweep.yaml", config), overrides).runs]


def sweep(folder: Path, **settings: Any) -> dict[str, Any]:
    return {"base": base(folder), "output": str(folder / "out"), **settings}


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(folder, sweep(folder, **settings))
    return str(caught.value)


def test_the_grid_is_a_product_and_seeds_come_last(tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "sweep.yaml", sweep(tmp_path, grid=GRID, seeds=[3, 4]))
    runs = plan_sweep(path).runs
    assert len(runs) == 8
    first, second = runs[:2]
    # YAML sorts nothing here: fields stand in the file's order.
    assert (first.name, second.name) == ("lr=0.01,sra.cos=0-seed3", "lr=0.01,sra.cos=0-seed4")
    assert first.variant == second.variant == "lr=0.01,sra.cos=0"
    assert first.differs == {"lr": "0.01", "sra.cos": "0"}
    assert (first.config.seed, second.config.seed) == (3, 4)
    assert first.config.output == tmp_path / "out" / "runs" / first.name
    last = runs[-1].config
    assert last.optimizer.lr == 3e-3
    assert [loss.model_dump()["cos"] for loss in last.objective if loss.name == "sra"] == [1.0]


def test_variants_have_names_presets_and_the_grid(tmp_path: Path) -> None:
    variants = [
        {"name": "ce", "set": {"objective": [{"loss": "ce"}]}},
        {"set": {"objective.1.weight": 0.5}},
        {"name": "paper", "set": {"preset": "sra-paper"}},
    ]
    config = sweep(tmp_path, runs=variants, grid={"steps": [2, 3]}, seeds=[0])
    config["base"].pop("objective")
    config["base"] |= {"preset": "sra-reference", "student": {"model": "gpt2", "tokenizer": "teacher"}}
    path = write_sweep(tmp_path / "sweep.yaml", config)
    found = {run.name: run.config for run in plan_sweep(path).runs}
    assert list(found) == [
        f"{variant},steps={steps}-seed0" for variant in ("ce", "1.weight=0.5", "paper") for steps in (2, 3)
    ]
    assert len(found["ce,steps=2-seed0"].objective) == 1
    assert found["1.weight=0.5,steps=2-seed0"].objective[1].weight == 0.5
    assert found["paper,steps=3-seed0"].objective != found["1.weight=0.5,steps=3-seed0"].objective


def test_values_of_a_grid_may_have_names_and_the_base_may_be_a_file(tmp_path: Path) -> None:
    objectives = {"ce": [{"loss": "ce"}], "both": [{"loss": "ce"}, {"loss": "sra"}]}
    of_base = write_sweep(tmp_path / "train.yaml", base(tmp_path, output="elsewhere", seed=5))
    config = {"base": str(of_base), "output": str(tmp_path / "out"), "grid": {"objective": objectives}}
    assert planned(tmp_path, config) == ["ce-seed5", "both-seed5"]
    assert planned(tmp_path, config, "seeds=[1]") == ["ce-seed1", "both-seed1"]


def test_the_command_line_may_change_the_base_that_stands_in_the_sweep(tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "sweep.yaml", sweep(tmp_path, grid={"steps": [2, 3]}, seeds=[0]))
    lr, named = (plan_sweep(path, [f"base.{said}"]).runs for said in ("optimizer.lr=0.25", "student.max_tokens=33"))
    assert [run.config.optimizer.lr for run in lr] == [0.25] * 2
    assert [run.config.student.max_tokens for run in named] == [33] * 2
    with pytest.raises(ConfigError, match=r"optimizer\.lt: unknown field"):
        plan_sweep(path, ["base.optimizer.lt=1"])


def test_a_wrong_field_is_told_with_its_run_and_the_nearest_right_name(tmp_path: Path) -> None:
    assert refused(tmp_path, grid={"optimizer.lrr": [1]}) == (
        "run lrr=1-seed0: optimizer.lrr: unknown field; did you mean `lr`?"
    )
    assert refused(tmp_path, grid={"objective.sar.cos": [1]}) == (
        "run sar.cos=1-seed0: the config has no such place as objective.sar.cos (no loss 'sar' is there, only ce, sra; "
        "did you mean `sra`?)"
    )
    assert refused(tmp_path, grid={"optimizer.lr": [1e-3, -1]}) == (
        "run lr=-1-seed0: optimizer.lr: Input should be greater than or equal to 1e-12 (given: -1)"
    )
    said = refused(tmp_path, grid={"epochs": [1, 2], "steps": [3]})
    assert said == f"{tmp_path}/sweep.yaml: config: give exactly one of steps, epochs"
    said = refused(tmp_path, runs=[{"name": "a"}, {"name": "b", "set": {"epochs": 2, "steps": 3}}])
    assert said == f"run b-seed0: {tmp_path}/sweep.yaml: config: give exactly one of steps, epochs"


def test_a_mistake_of_the_base_is_told_once_with_its_line(tmp_path: Path) -> None:
    config = sweep(tmp_path, grid={"steps": [1, 2]})
    config["base"]["batch_size"] = 0
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, config)
    lines = (tmp_path / "sweep.yaml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "batch_size" in text)
    assert str(caught.value) == (
        f"{tmp_path}/sweep.yaml:{line}: batch_size: Input should be greater than or equal to 1 (given: 0)"
    )


def test_equal_runs_equal_names_and_absurd_sizes_are_refused(tmp_path: Path) -> None:
    equal = refused(tmp_path, runs=[{"name": "a"}, {"name": "b", "set": {"optimizer.lr": 0.01}}])
    assert equal.endswith("sweep.yaml: a-seed0 and b-seed0 are the same run, of equal configs; take one out")
    named = refused(tmp_path, grid={"evaluation.texts": ["one/held.txt", "two/held.txt"]})
    assert named.endswith("two different runs would be called texts=held.txt-seed0; name their values or the runs")
    grid = {field: list(range(1, 101)) for field in ("steps", "batch_size", "accumulation")}
    assert refused(tmp_path, grid=grid).endswith("1,000,000 runs, and a sweep has up to 10,000; give it fewer values")
