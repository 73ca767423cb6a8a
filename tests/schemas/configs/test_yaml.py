"""Configs are read with the file, the line and the field of everything that is wrong with them."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.configs.losses.sra import SRAConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import dump_config, load_config
from schemas.errors import ConfigError

GOOD = """\
cache: /caches/a
output: /runs/b
steps: 10
student:
  architecture: {model_type: llama, hidden_size: 48}
  tokenizer: teacher
objective:
  - loss: ce
    weight: 0.5
  - loss: sra
    weight: 0.5
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_filled_in_and_survive_a_round_trip(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), TrainingConfig)
    assert config.optimizer.lr == 1e-3 and config.student.max_tokens == 1024
    assert load_config(write(tmp_path, dump_config(config)), TrainingConfig) == config


def test_overrides_reach_into_lists_and_sections(tmp_path: Path) -> None:
    overrides = ["optimizer.lr=3e-4", "objective.1.mass_exponent=0.5", "seed=7"]
    config = load_config(write(tmp_path, GOOD), TrainingConfig, overrides)
    sra = config.objective[1]
    assert isinstance(sra, SRAConfig)
    assert (config.optimizer.lr, sra.mass_exponent, config.seed) == (3e-4, 0.5, 7)


@pytest.mark.parametrize(
    ("broken", "line", "said"),
    [
        (GOOD.replace("steps: 10", "stpes: 10"), 3, "did you mean `steps`"),
        (GOOD.replace("weight: 0.5\n  - loss: sra", "wieght: 0.5\n  - loss: sra"), 9, "did you mean `weight`"),
        (GOOD.replace("steps: 10", "steps: ten"), 3, "steps"),
        (GOOD.replace("loss: sra", "loss: sar"), 10, "unknown loss 'sar'; did you mean `sra`? available: alm, ce, "),
        (GOOD.replace("steps: 10", "steps: 10\nsteps: 11"), 4, "given twice (first on line 3)"),
        (GOOD + "    mass_exponent: .nan\n", 12, "mass_exponent"),
        (GOOD.replace("  tokenizer: teacher\n", ""), 4, "tokenizer"),
        (GOOD.replace("steps: 10\n", ""), None, "exactly one of steps, epochs"),
        (GOOD.replace("cache: /caches/a\n", ""), None, "cache: this field is required"),
        ("- a\n- b\n", None, "a config is a mapping"),
        ("", None, "a config is a mapping"),
        ("steps: [1\n", None, "not valid YAML"),
        (GOOD + "? [a, b]\n: 1\n", 12, "a key is one word, this is a sequence"),
        (GOOD + "seed: 2024-13-45\n", None, "'2024-13-45' cannot be read: month must be in 1..12"),
        (GOOD + "seed: 2024-13-45\n", None, "line 12, column 7"),
        (GOOD + "seed: !!bool maybe\n", None, "'maybe' cannot be read"),
        (GOOD + "epochs: &a [*a]\n", None, "nested too deeply"),
        (GOOD + "epochs: " + "[" * 5000 + "\n", None, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, broken: str, line: int | None, said: str) -> None:
    path = write(tmp_path, broken)
    with pytest.raises(ConfigError) as caught:
        load_config(path, TrainingConfig)
    message = str(caught.value)
    assert said in message and str(path) in message
    assert line is None or f"{path}:{line}: " in message


@pytest.mark.parametrize(
    "override",
    [
        "steps", "=3", "objective.9.weight=1", "steps.deeper=1", "objective.first=2", "seed=2024-13-45",
        "seed=!!bool maybe", "steps=" + "[" * 5000,
    ],
)  # fmt: skip
def test_an_override_without_a_place_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config(write(tmp_path, GOOD), TrainingConfig, [override])


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    broken = GOOD.replace("steps: 10", "steps: 0").replace("weight: 0.5\n  - loss: sra", "weight: -1\n  - loss: sra")
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, broken), TrainingConfig)
    assert len(str(caught.value).splitlines()) == 2


@given(st.text(max_size=60))
def test_no_text_brings_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError):
        load_config(path, TrainingConfig)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml", TrainingConfig)


def laughs(levels: int) -> str:
    """A few hundred bytes whose last line stands for ten to the power of `levels` values."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_aliases_are_bounded_and_ordinary_ones_work(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match="more than 100,000 values, with its aliases unfolded"):
        load_config(write(tmp_path, laughs(10)), TrainingConfig)
    flow = "{" + laughs(9).replace("\n", ", ") + "}"
    with pytest.raises(ConfigError, match="more than 100,000 values"):
        load_config(write(tmp_path, GOOD), TrainingConfig, [f"student.architecture={flow}"])
    assert time.monotonic() - started < 5
    with pytest.raises(ConfigError, match="an alias in it stands within its own anchor"):
        load_config(write(tmp_path, "a: &a [*a]\n"), TrainingConfig)
    shared = GOOD.replace(
        "weight: 0.5\n  - loss: sra\n    weight: 0.5", "weight: &w 0.5\n  - loss: sra\n    weight: *w"
    )
    assert load_config(write(tmp_path, shared), TrainingConfig) == load_config(write(tmp_path, GOOD), TrainingConfig)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("/runs/b", '"a\\uD800b"'), r"config\.yaml:2: 'a\\ud800b' holds an unpaired surrogate"),
        (GOOD.replace("/runs/b", '"a\\0b"'), r"config\.yaml:2: .* holds a zero byte"),
        (GOOD + '"a\\uD800b": 1\n', r"config\.yaml:12: .* holds an unpaired surrogate"),
        (
            GOOD.replace("steps: 10", "steps: " + "9" * 5_000),
            r"not valid YAML: '9999.*'…'99.*5,000 characters",
        ),
        (GOOD.replace("steps: 10", 'steps: "\\e[31m' + "x" * 5_000 + '"'), r"given: '\\x1b\[31mxxx.*5,005 characters"),
        ("[" * 50_000, "nested too deeply"),
        ("a: " * 50_000, "not valid YAML"),
        ("x" * (300 << 10), "larger than the 262,144 bytes"),
    ],
)
def test_hostile_texts_have_one_short_message(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(write(tmp_path, text), TrainingConfig)
    assert len(str(refused.value)) < 2_000


def test_a_config_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for name, said in (("pipe.yaml", "it is a pipe"), ("zero.yaml", "it is a device"), (".", "it is a folder")):
        with pytest.raises(ConfigError, match=f"cannot read the config .*: {said}, and a regular file is wanted"):
            load_config(tmp_path / name, TrainingConfig)
