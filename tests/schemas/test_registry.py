"""A registry finds a package's own objects and those of installed packages, and refuses what it cannot use by name."""

import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.registry import Registry

GROUP = "stillroom.test_fruits"
OWN = {
    "pear": "class Fruit:\n    name = 'pear'\nFRUIT = Fruit()",
    "quince": "class Fruit:\n    name, order = 'quince', -1\nFRUIT = Fruit()",
    "basket": "",  # a module without a fruit is none
}


def write_package(folder: Path, name: str, modules: dict[str, str]) -> None:
    (folder / name).mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (folder / name / f"{module}.py").write_text(text)


def install(folder: Path, name: str, text: str, entry: str) -> None:
    """A module beside the record of a distribution, as an installer lays them out."""
    (folder / f"{name}.py").write_text(text)
    record = folder / f"{name}-1.2.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (record / "entry_points.txt").write_text(f"[{GROUP}]\nany = {name}:{entry}\n")


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    monkeypatch.syspath_prepend(tmp_path)
    write_package(tmp_path, f"orchard_{tmp_path.name}", OWN)
    return Registry("fruit", f"orchard_{tmp_path.name}", "FRUIT", GROUP)


def test_own_and_installed_objects_stand_in_one_order(fruits: Registry[Any], tmp_path: Path) -> None:
    install(tmp_path, "grapes_to_find", "class Grape:\n    name = 'grape'\nGRAPE = Grape()", "GRAPE")
    assert list(fruits) == ["quince", "grape", "pear"]
    assert len(fruits) == 3 and fruits["grape"].name == "grape" and "cherry" not in fruits
    with pytest.raises(ConfigError, match=r"unknown fruit 'cherry'; available: quince, grape, pear"):
        fruits.find("cherry")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('frost')", r"cannot load the fruit .*bad_fruit:BAD of bad_fruit 1.2: RuntimeError: frost"),
        ("", "bad_fruit 1.2: AttributeError"),
        ("class BAD:\n    name = 'a pear'", r"the fruit of bad_fruit 1.2 has no usable name: 'a pear'"),
        ("class BAD:\n    name = 'pear'", r"the fruit 'pear' is brought twice: by orchard_.*\.pear and bad_fruit 1.2"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_package(
    fruits: Registry[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.delitem(sys.modules, "bad_fruit", raising=False)
    install(tmp_path, "bad_fruit", text, "BAD")
    with pytest.raises(ConfigError, match=said):
        list(fruits)


def test_a_check_may_refuse(fruits: Registry[Any], tmp_path: Path) -> None:
    def refuse(item: Any) -> None:
        raise ValueError(f"{item.name} is sour")

    install(tmp_path, "sour_fruit", "class Lime:\n    name = 'lime'", "Lime")
    with pytest.raises(ConfigError, match=r"the fruit of sour_fruit 1\.2 cannot be used: lime is sour"):
        list(Registry("fruit", fruits.package, "FRUIT", GROUP, refuse))
