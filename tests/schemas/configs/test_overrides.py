"""`--set`: values laid over a config, and what is said of those that are wrong."""

from pathlib import Path

import pytest

from jobs.presets import PRESETS
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.overrides import read_override
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.errors import ConfigError

PLAIN = "cache: c\noutput: o\nsteps: 3\nstudent: {model: m}\n"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A config that lacks every section it may lack."""
    path = tmp_path / "train.yaml"
    path.write_text(PLAIN, encoding="utf-8")
    return path


def refused(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, TrainingConfig, overrides, PRESETS)
    return str(caught.value).splitlines()


def test_a_value_is_put_where_it_belongs() -> None:
    data = {"objective": [{"loss": "ce"}, {"loss": "kd"}]}
    assert read_override("objective.-1.weight=0.5").lay_over(data) == ("objective", 1, "weight")
    assert read_override("optimizer.betas=[0.9, 0.99]").lay_over(data) == ("optimizer", "betas")
    assert data == {"objective": [{"loss": "ce"}, {"loss": "kd", "weight": 0.5}], "optimizer": {"betas": [0.9, 0.99]}}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than or equal to 1e-12 (given: -1)"),
        ("optimizer.betas=[1, 1]", "optimizer.betas.0: Input should be less than 1 (given: 1)"),
        (
            "optimizer.sharpness.rho=0",
            "optimizer.sharpness.rho: Input should be greater than or equal to 1e-06 (given: 0)",
        ),
        ("objective=[{loss: ce, weight: -1}]", "objective.0.weight: Input should be greater than or equal to 0"),
        ("student.max_tokens=1", "student.max_tokens: Input should be greater than or equal to 2 (given: 1)"),
        ("steps=0", "steps: Input should be greater than or equal to 1 (given: 0)"),
        ("warmup=1", "warmup: unknown field; did you mean `optimizer.warmup`?"),
        ("max_token=64", "max_token: unknown field; did you mean `student.max_tokens`?"),
        ("evaluation.evry=3", "evaluation.evry: unknown field; did you mean `every`?"),
        ("objective.0.mass_exponent=1", "objective: Input should be a valid list"),
        ("evaluation.every=3", "evaluation: give exactly one of texts, pairs"),
        ("preset=sra", "unknown preset 'sra'; available: mta-paper"),
    ],
)
def test_a_wrong_value_is_named_whole_and_as_the_command_lines(plain: Path, override: str, said: str) -> None:
    lines = refused(plain, override)
    assert all(line.startswith(f"--set {override!r}: ") for line in lines), lines
    assert any(said in line for line in lines), lines


def test_the_file_keeps_its_lines_beside_an_override(plain: Path) -> None:
    plain.write_text(PLAIN + "seed: -1\n", encoding="utf-8")
    assert refused(plain, "optimizer.lr=-1") == [
        "--set 'optimizer.lr=-1': optimizer.lr: Input should be greater than or equal to 1e-12 (given: -1)",
        f"{plain}:5: seed: Input should be greater than or equal to 0 (given: -1)",
    ]


def test_the_last_of_two_overrides_is_named(plain: Path) -> None:
    assert refused(plain, "steps=0", "steps=-1") == [
        "--set 'steps=-1': steps: Input should be greater than or equal to 1 (given: -1)"
    ]


def test_a_field_of_another_loss_is_not_suggested_for_itself(plain: Path) -> None:
    lines = refused(plain, "objective=[{loss: ce, mass_exponent: 1}]")
    assert len(lines) == 1 and "objective.0.mass_exponent: unknown field" in lines[0]
    assert "`mass_exponent`" not in lines[0]


def test_a_preset_is_chosen_by_an_override(plain: Path) -> None:
    written = plain.with_name("preset.yaml")
    written.write_text("preset: sra-paper\n" + PLAIN, encoding="utf-8")
    chosen = load_config(plain, TrainingConfig, ["preset=sra-paper", "objective.1.weight=0.25"], PRESETS)
    expected = load_config(written, TrainingConfig, ["objective.1.weight=0.25"], PRESETS)
    assert chosen == expected and chosen.objective[1].weight == 0.25
    assert load_config(written, TrainingConfig, ["preset=talas-paper"], PRESETS) == load_config(
        plain, TrainingConfig, ["preset=talas-paper"], PRESETS
    )


def test_an_override_displaces_what_a_preset_says_instead(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("epochs: 3\n", encoding="utf-8")
    config = tmp_path / "train.yaml"
    config.write_text("preset: p\n" + PLAIN.replace("steps: 3\n", ""), encoding="utf-8")
    assert load_config(config, TrainingConfig, [], tmp_path).epochs == 3
    found = load_config(config, TrainingConfig, ["steps=7"], tmp_path)
    assert (found.steps, found.epochs) == (7, None)


def test_an_override_displaces_what_the_file_says_instead(plain: Path) -> None:
    found = load_config(plain, TrainingConfig, ["epochs=7"])
    assert (found.steps, found.epochs) == (None, 7)
    assert "give exactly one of steps, epochs" in refused(plain, "epochs=7", "steps=3")[0]
    assert load_config(plain, TrainingConfig, ["epochs=null"]).steps == 3


def test_presets_are_of_trainings_alone(tmp_path: Path) -> None:
    path = tmp_path / "extract.yaml"
    path.write_text("output: o\ncorpus: {files: [a], text: t}\nteacher: {model: m}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="--set 'preset=sra-paper': preset: unknown field"):
        load_config(path, ExtractionConfig, ["preset=sra-paper"])
