"""The chat template of a run: what it pairs is said once, and a run goes on with what it began with."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.errors import ConfigError, RunError
from tests.caches import small_cache
from tests.chats import chat_cache, family
from tests.crash import interrupt
from trainer.runs.train import train

ARCHITECTURE = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
ARCHITECTURE |= {"num_attention_heads": 2, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_cache(tmp_path_factory.mktemp("templates"))


def config(cache: Path, output: Path, losses: list[str], **student: Any) -> TrainingConfig:
    base = {"cache": cache, "output": output, "objective": [{"loss": loss} for loss in losses], "device": "cpu"}
    base |= {"steps": 2, "batch_size": 2, "threads": 1, "checkpoint_every": 1, "log_every": 1}
    return TrainingConfig.model_validate(
        base | {"student": {"architecture": ARCHITECTURE, "tokenizer": "teacher", **student}}
    )


def first_line(output: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((output / "metrics.jsonl").read_text().splitlines()[0])
    return found


def test_a_run_says_once_how_many_targets_are_paired(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of each of seven answers in `plain`, the first token follows words of the template; in the teacher's, none."""
    caplog.set_level(logging.WARNING)
    train(config(cache, tmp_path / "own", ["kd"], chat_template="plain"))
    share = first_line(tmp_path / "own")["align/pairs"]
    (said,) = [record.getMessage() for record in caplog.records if "paired" in record.getMessage()]
    assert "; 7 of them follow words of a chat template" in said and f"{100 * share:.1f}%" in said
    caplog.clear()
    train(config(cache, tmp_path / "same", ["kd"]))
    assert first_line(tmp_path / "same")["align/pairs"] == 1 and not caplog.records
    train(config(cache, tmp_path / "spans", ["sra"], chat_template="plain"))
    assert "align/pairs" not in first_line(tmp_path / "spans") and not caplog.records


def test_a_run_goes_on_with_the_template_it_began_with(cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text(family("zephyr").template, encoding="utf-8")
    run = config(cache, tmp_path / "run", ["ce"], chat_template=str(own))
    interrupt(run, 1)
    own.write_text(family("phi3").template, encoding="utf-8")
    with pytest.raises(RunError, match=r"other contents of student\.chat_template \(.*own\.jinja\)"):
        train(run)
    own.write_text(family("zephyr").template, encoding="utf-8")
    train(run)
    assert (run.output / "model" / "config.json").exists()


def test_a_template_is_for_conversations(tmp_path: Path) -> None:
    texts = small_cache(tmp_path / "texts")
    with pytest.raises(ConfigError, match=r"student\.chat_template .* are for conversations"):
        train(config(texts, tmp_path / "run", ["ce"], chat_template="plain"))
    assert not (tmp_path / "run").exists()
