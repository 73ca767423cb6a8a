"""A loss of another package: installed beside stillroom, with an entry point, and no file of stillroom's touched."""

import json
import os
import re
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import ClassVar, Literal

import pytest

from schemas.configs.losses.base import WeightedLoss
from schemas.errors import ConfigError
from tests.caches import small_cache
from tests.commands import run
from trainer.objectives.registry import find_loss
from trainer.runs.metrics import read_metrics

CONFIG = '''
"""The config of `warmth`, a loss of another package."""
from typing import ClassVar, Literal
from schemas.configs.losses.base import WeightedLoss

class WarmthConfig(WeightedLoss):
    """How far the student's final states are from the teacher's mean activation."""
    module: ClassVar[str | None] = "toy_warmth.loss"
    loss: Literal["warmth"] = "warmth"
    goal_factor: float = 2.0
    """What the teacher's mean activation is multiplied with."""
'''
LOSS = '''
"""It brings a request of its own: what a state kind from outside would need."""
from dataclasses import dataclass
from torch import Tensor
from trainer.data.request import BatchRequest, Drawn
from trainer.objectives.loss import Loss, Term
from trainer.student.states import StudentHidden

@dataclass(frozen=True)
class MeanActivation(BatchRequest[Tensor]):
    """[B], the mean of a sample's teacher states."""
    layer: int

    def require(self, cache):
        cache.array("hidden", self.layer)

    def collate(self, drawn: Drawn) -> Tensor:
        return drawn.states(drawn.cache.array("hidden", self.layer)).mean((1, 2))

class Warmth(Loss):
    def __init__(self, config, context):
        super().__init__(config)
        self.divisor, self.goal_factor = "sample", config.goal_factor
        self.mean = MeanActivation(context.manifest.teacher.num_layers)
        self.hidden = StudentHidden(context.student.layers)
        self.requests = frozenset([self.mean, self.hidden])

    def forward(self, student, batch):
        own_B = student[self.hidden].mean((1, 2))
        goal_B = self.goal_factor * batch[self.mean].to(own_B.dtype)
        return {"gap": Term((own_B - goal_B).square().sum()), "seen": Term(batch[self.mean].sum(), 0.0)}

LOSS = Warmth
'''


def install(folder: Path, config: str = CONFIG, loss: str = LOSS) -> None:
    """A package beside the record of its distribution, as an installer lays them out."""
    package, record = folder / "toy_warmth", folder / "toy_warmth-0.3.dist-info"
    package.mkdir(parents=True)
    record.mkdir()
    for name, text in {"__init__": "", "config": config, "loss": loss}.items():
        (package / f"{name}.py").write_text(text)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-warmth\nVersion: 0.3\n")
    (record / "entry_points.txt").write_text("[stillroom.losses]\nwarmth = toy_warmth.config:WarmthConfig\n")


def python(site: Path, *arguments: object) -> "CompletedProcess[str]":
    """A process that finds what is installed in `site`."""
    path = os.pathsep.join([str(site), *(entry for entry in sys.path if entry)])
    return run(arguments, environment={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    small_cache(folder)
    install(folder / "site")
    return folder


def write_run(folder: Path, name: str, term: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"""\
cache: {folder / "cache"}
output: {folder / name}
steps: 12
batch_size: 4
threads: 1
device: cpu
log_every: 1
student:
  architecture: {{model_type: llama, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2,
                 num_attention_heads: 2}}
  tokenizer: teacher
  max_tokens: 48
objective:
  - loss: ce
  - {term}
""")
    return path


def test_a_run_learns_from_it_and_reports_it(made: Path) -> None:
    config = write_run(made, "run", "{loss: warmth, weight: 40, goal_factor: 3}")
    done = python(made / "site", "-m", "jobs.cli", "train", config)
    assert done.returncode == 0, done.stderr
    lines = [line for line in read_metrics(made / "run") if "warmth/gap" in line]
    assert len(lines) == 12 and lines[0]["warmth/gap"] > 1.5 * lines[-1]["warmth/gap"] > 0
    for line in lines:
        assert line["loss"] == pytest.approx(line["ce/nll"] + 40 * line["warmth/gap"], rel=1e-5)
    schema = python(made / "site", "-m", "jobs.cli", "schema", "train")
    definitions = json.loads(schema.stdout)["$defs"]
    fields = definitions["WarmthConfig"]["properties"]
    assert fields["goal_factor"]["description"] == "What the teacher's mean activation is multiplied with."


WRONG = {
    "{loss: warmht}": "15: objective.1: unknown loss 'warmht'; did you mean `warmth`? available: alm, ce, dskd, ",
    "{loss: warmth, goal_facto: 2}": "objective.1.goal_facto: unknown field; did you mean `goal_factor`?",
    "{loss: warmth, goal_factor: hot}": "15: objective.1.goal_factor: Input should be a valid number",
    "{loss: [warmth]}": "15: objective.1: unknown loss ['warmth']",
    "{weight: 1}": "15: objective.1: a loss is a mapping with `loss`, one of alm, ce, dskd, ",
    "warmth": "15: objective.1: a loss is a mapping with `loss`, one of alm, ce, dskd, ",
}
READ_ALL = """
import sys
from pathlib import Path
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.errors import ConfigError
for path in sys.argv[1:]:
    try:
        load_config(Path(path), TrainingConfig)
    except ConfigError as error:
        print(error)
"""


def test_what_is_wrong_with_it_is_said_as_of_any_other(made: Path) -> None:
    paths = [write_run(made, f"wrong{number}", term) for number, term in enumerate(WRONG)]
    done = python(made / "site", "-c", READ_ALL, *paths)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(WRONG)
    for line, said in zip(done.stdout.splitlines(), WRONG.values(), strict=True):
        assert said in line


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        ('"warmth"', '"sra"', "the loss 'sra' is brought twice: by schemas.configs.losses.sra and toy-warmth 0.3"),
        ("(WeightedLoss)", "", "the loss of toy-warmth 0.3 cannot be used: it is not a class derived from"),
        ("    module:", "    other:", "WarmthConfig.module must say in which module its `LOSS` is"),
    ],
    ids=["a name that is taken", "not a loss", "no module"],
)
def test_a_config_that_cannot_be_used_is_named(tmp_path: Path, now: str, then: str, said: str) -> None:
    install(tmp_path, CONFIG.replace(now, then))
    done = python(tmp_path, "-m", "jobs.cli", "schema", "train")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot load the loss 'warm' of warm_loss: AttributeError: module 'warm_loss' has no attribute 'LOSS'"),
        ("1 / 0", "cannot load the loss 'warm' of warm_loss: ZeroDivisionError: division by zero"),
        ("LOSS = dict", "warm_loss.LOSS, the loss 'warm', is not derived from trainer.objectives.loss.Loss"),
    ],
)
def test_a_module_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    class WarmConfig(WeightedLoss):
        module: ClassVar[str | None] = "warm_loss"
        loss: Literal["warm"] = "warm"

    (tmp_path / "warm_loss.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "warm_loss", raising=False)
    with pytest.raises(ConfigError, match=re.escape(said)):
        find_loss(WarmConfig)
