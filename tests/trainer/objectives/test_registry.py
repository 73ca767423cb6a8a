"""A loss is found by its config: in the module of its name, or in the one that the config names."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from schemas.configs.losses.base import WeightedLoss
from schemas.configs.losses.registry import LOSSES
from schemas.errors import ConfigError
from trainer.alignment import spans
from trainer.objectives.loss import Loss
from trainer.objectives.registry import find_loss


class Elsewhere(WeightedLoss):
    """Of another package."""

    name = "elsewhere"
    module = "a_module_of_another_package"


@pytest.mark.parametrize("name", LOSSES)
def test_every_config_has_its_loss(name: str) -> None:
    found = find_loss(LOSSES[name])
    assert isinstance(found, type) and issubclass(found, Loss)
    assert found.__module__ == f"trainer.objectives.{name}"


def test_another_packages_loss_is_where_its_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("a_module_of_another_package")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(ConfigError, match=r"^cannot load the loss 'elsewhere' of a_module_.*: AttributeError: .*LOSS"):
        find_loss(Elsewhere)
    monkeypatch.setattr(module, "LOSS", int, raising=False)
    wanted = r"^a_module_of_another_package\.LOSS, the loss 'elsewhere', is not derived from trainer\..*\.Loss$"
    with pytest.raises(ConfigError, match=wanted):
        find_loss(Elsewhere)
    monkeypatch.setattr(module, "LOSS", Loss)
    found: object = find_loss(Elsewhere)
    assert found is Loss


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"^cannot load the loss 'elsewhere' of a_module_.*: ModuleNotFoundError: No mod"
    ):
        find_loss(Elsewhere)


def test_it_is_written_down_what_every_loss_does_with_several_targets() -> None:
    readme = Path(spans.__file__).with_name("README.md").read_text(encoding="utf-8")
    table = " ".join(line.split("|")[1] for line in readme.splitlines() if line.startswith("| "))
    assert set(LOSSES) <= set(re.findall(r"\w+", table))
