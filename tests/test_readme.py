"""A newcomer copies what README.md shows: configs are legal, with settings that were measured to work; code runs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.configs.extraction import ExtractionConfig
from schemas.configs.importing import ImportConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.configs.sweep import SweepConfig
from schemas.configs.training import TrainingConfig
from tests.caches import small_cache
from tests.trainings import small_training

README = Path(__file__).parents[1] / "README.md"


def configs() -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def test_the_configs_are_legal_and_go_together() -> None:
    extraction, importing, training, sweep, conversations = configs()
    cache = ExtractionConfig.model_validate(extraction)
    assert ExtractionConfig.model_validate({"output": "a/cache"} | conversations).corpus.conversations
    assert ImportConfig.model_validate(importing).teacher.model == cache.teacher.model
    run = TrainingConfig.model_validate(training)
    assert cache.output == run.cache
    assert cache.teacher.max_tokens == run.student.max_tokens
    many = SweepConfig.model_validate(sweep)
    assert many.base == Path("train.yaml") and set(many.grid) == {"optimizer.lr"}
    assert [sorted(variant.set) for variant in many.runs or ()] == [["objective"], []]


def test_sra_is_softened_as_it_was_measured() -> None:
    """RESULTS.md: the paper's weights harm small students. The default rate is for random weights."""
    run = TrainingConfig.model_validate(configs()[2])
    ce, sra = run.objective
    assert isinstance(sra, SRAConfig)
    assert (ce.weight, sra.weight) == (1, 1)
    assert (sra.span_kd, sra.span_kd_reduction, sra.mass_exponent) == (0.1, "mean", 0.5)
    assert run.student.model is not None and run.optimizer.lr == 5e-5


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    small_cache(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = small_training(tmp_path, output="runs/other", objective=[{"loss": "ce"}], steps=1)
    Path("train.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    names: dict[str, Any] = {}
    exec(code.replace("/data/caches/qwen-dolly", str(tmp_path / "cache")), names)
    assert (names["result"].steps, names["result"].folder) == (1, Path("runs/gpt2-sra-seed1"))
    assert yaml.safe_load(Path("runs/gpt2-sra-seed1/config.yaml").read_text(encoding="utf-8"))["seed"] == 1
