"""Presets: each is a valid part of a training config, and says what its paper says."""

import re
from pathlib import Path

import pytest

from jobs.presets import PRESETS, show_presets
from schemas.configs.training import SharpnessConfig, TrainingConfig
from schemas.configs.yaml import load_config
from schemas.errors import ConfigError

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))
OWN = """
cache: cache
output: out
student: {model: gpt2, tokenizer: teacher}
steps: 10
"""


def load(folder: Path, text: str) -> TrainingConfig:
    (folder / "train.yaml").write_text(text)
    return load_config(folder / "train.yaml", TrainingConfig, (), PRESETS)


def loss(config: TrainingConfig, kind: str) -> dict[str, object]:
    (found,) = (item for item in config.objective if item.name == kind)
    return found.model_dump()


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_and_what_is_ones_own_make_a_config(tmp_path: Path, name: str) -> None:
    config = load(tmp_path, f"preset: {name}\n{OWN}")
    assert config.steps == 10
    assert config.objective


def test_sra_as_the_paper_and_as_its_code_have_it(tmp_path: Path) -> None:
    paper = loss(load(tmp_path, f"preset: sra-paper\n{OWN}"), "sra")
    reference = loss(load(tmp_path, f"preset: sra-reference\n{OWN}"), "sra")
    weights = ("weight", "cos", "geo", "span_kd", "temperature", "mass_exponent", "span_kd_reduction", "max_spans")
    assert [paper[name] for name in weights] == [0.5, 1, 1, 1, 2, 1, "sum", 1024]
    assert [reference[name] for name in weights] == [0.5, 2, 10, 1, 2, 1, "sum", 1024]
    assert reference["projection"] == {"init": "xavier", "bias": False, "lr": 5e-4, "weight_decay": 0}
    assert (paper["mass_floor"], reference["mass_floor"]) == (0, 1e-5)


def test_talas_as_the_paper_and_as_its_code_have_it(tmp_path: Path) -> None:
    paper, reference = (load(tmp_path, f"preset: talas-{which}\n{OWN}") for which in ("paper", "reference"))
    for config in (paper, reference):
        found, sharpness = loss(config, "talas"), config.optimizer.sharpness
        constants = ("contrastive", "tamd", "lasd", "anchored_layers", "temperature")
        assert [found[name] for name in constants] == [0.001, 0.75, 1, 2, 0.1]
        assert (config.student.kind, config.optimizer.lr, config.batch_size) == ("encoder", 2e-5, 32)
        assert sharpness is not None and sharpness.rho == 0.05
    assert paper.optimizer.sharpness == SharpnessConfig(rho=0.05, eta=0.01)
    assert reference.optimizer.sharpness == SharpnessConfig(rho=0.05, eta=0, scale_biases=True)
    assert [loss(paper, "talas")[name] for name in ("lasd_reduction", "lasd_guide")] == ["sum", "detached"]
    assert [loss(reference, "talas")[name] for name in ("lasd_reduction", "lasd_guide")] == ["mean", "trained"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sra", {"lr": 1e-3, "min_lr": 5e-6, "warmup": 0.1, "weight_decay": 0.01, "clip": None, "decay": "matrices"}),
        ("mta", {"lr": 1e-4, "min_lr": 1e-7, "warmup": 0.0, "weight_decay": 0.01, "clip": 1.0, "decay": "matrices"}),
        ("talas", {"lr": 2e-5, "min_lr": 2e-6, "warmup": 0.06, "weight_decay": 0.01, "clip": None, "decay": "all"}),
    ],
)
def test_a_reference_is_one_script_at_one_commit_with_every_setting(
    tmp_path: Path, name: str, wanted: dict[str, object]
) -> None:
    """What torch leaves to its defaults is set too; what is not as the script has it has a line of its own."""
    text = (PRESETS / f"{name}-reference.yaml").read_text(encoding="utf-8")
    comment = text[: text.index("\n" + next(line for line in text.splitlines() if not line.startswith("#")))]
    assert re.search(r": [\w-]+/[\w-]+ @ [0-9a-f]{40},", comment) and ".sh" in comment
    deviations = comment[comment.index("# Known deviations of this file from it:") :].splitlines()[1:]
    assert len(deviations) >= 4 and all(line.startswith("# - ") for line in deviations)
    settings = load(tmp_path, f"preset: {name}-reference\n{OWN}").optimizer.model_dump()
    assert {key: settings[key] for key in wanted} == wanted
    assert (settings["betas"], settings["eps"]) == ((0.9, 0.999), 1e-8)


def test_mta_as_the_paper_has_it(tmp_path: Path) -> None:
    config = load(tmp_path, f"preset: mta-paper\n{OWN}")
    found, base = loss(config, "mta"), loss(config, "kd")
    assert [found[name] for name in ("dsa", "hid", "student_layers", "word_layers")] == [2, 0.2, {"top": 3}, 1]
    assert (base["divergence"], base["skew"]) == ("skew_forward_kl", 0.1)


def test_what_the_config_says_goes_before_the_preset(tmp_path: Path) -> None:
    text = f"preset: sra-paper\noptimizer: {{lr: 5.0e-5}}\n{OWN}"
    config = load(tmp_path, text)
    assert (config.optimizer.lr, config.optimizer.min_lr, config.optimizer.warmup) == (5e-5, 5e-6, 0.1)
    assert config.batch_size == 16
    config = load(tmp_path, f"{text}objective: [{{loss: ce}}]\nbatch_size: 4\n")
    assert [item.name for item in config.objective] == ["ce"]
    assert config.batch_size == 4


def test_lengths_are_the_papers_where_the_config_gives_none(tmp_path: Path) -> None:
    own = OWN.replace("steps: 10\n", "")
    for name, epochs in (
        ("sra-paper", 10),
        ("sra-reference", 10),
        ("talas-paper", 5),
        ("talas-reference", 5),
        ("mta-reference", 5),
    ):
        config = load(tmp_path, f"preset: {name}\n{own}")
        assert (config.epochs, config.steps) == (epochs, None)
        config = load(tmp_path, f"preset: {name}\n{OWN}")
        assert (config.epochs, config.steps) == (None, 10)
    assert load(tmp_path, f"preset: sra-paper\n{own}").student.max_tokens == 320
    shorter = own.replace("tokenizer: teacher", "tokenizer: teacher, max_tokens: 64")
    assert load(tmp_path, f"preset: sra-paper\n{shorter}").student.max_tokens == 64


def test_an_unknown_preset_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.yaml: unknown preset 'sra'; available: .*sra-paper"):
        load(tmp_path, f"preset: sra\n{OWN}")
    with pytest.raises(ConfigError, match="unknown preset 'sra'"):
        show_presets("sra")


def test_presets_are_listed_and_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_presets(None)
    listed = capsys.readouterr().out
    assert all(name in listed for name in NAMES)
    show_presets("sra-reference")
    assert capsys.readouterr().out == (PRESETS / "sra-reference.yaml").read_text()
