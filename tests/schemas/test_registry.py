"""A registry finds a package's own objects and those of installed packages, and refuses what it cannot use by name."""

import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError, StillroomError
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
        (
            "raise SystemExit(0)",
            r"cannot load .* of bad_fruit 1\.2: it tried to end the program \(SystemExit: 0\); mend that package",
        ),
        ("import sys\nsys.exit()", r"it tried to end the program \(SystemExit: None\)"),
        ("class BAD:\n    name = 'a pear'", r"bad_fruit 1\.2 cannot be used: it has no usable name: 'a pear'"),
        ("BAD = 3", r"the fruit of bad_fruit 1\.2 cannot be used: it has no usable name: None"),
        (
            "class BAD:\n    name, order = 'plum', 'x'",
            r"bad_fruit 1\.2 cannot be used: its `order` is 'x', not an integer",
        ),
        (
            "class Bad:\n    @property\n    def name(self): raise RuntimeError('too\\nripe')\nBAD = Bad()",
            r"the fruit of bad_fruit 1\.2 cannot be used: RuntimeError: too ripe$",
        ),
        (
            "class Bad:\n    @property\n    def order(self): raise SystemExit\n    name = 'plum'\nBAD = Bad()",
            r"the fruit of bad_fruit 1\.2 cannot be used: it tried to end the program",
        ),
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


def test_a_ctrl_c_goes_through(fruits: Registry[Any], tmp_path: Path) -> None:
    """One cannot tell a package's own from the user's, and a command that it ends says so."""
    install(tmp_path, "interrupted_fruit", "raise KeyboardInterrupt", "LIME")
    with pytest.raises(KeyboardInterrupt):
        list(fruits)


def test_what_only_one_may_have_is_not_brought_twice(fruits: Registry[Any], tmp_path: Path) -> None:
    package = f"orchard_{tmp_path.name}"
    (tmp_path / package / "quince.py").unlink()
    (tmp_path / package / "pear.py").write_text("class FRUIT:\n    name, trees = 'pear', ('p', 'q')")
    install(tmp_path, "grafted_fruit", "class LIME:\n    name, trees = 'lime', ('l', 'q')", "LIME")
    said = rf"the fruit 'q' by its trees is brought twice: by {package}\.pear and grafted_fruit 1\.2"
    with pytest.raises(ConfigError, match=said):
        list(Registry("fruit", package, "FRUIT", GROUP, distinct="trees"))


def test_what_a_package_raises_is_told_by_its_name(fruits: Registry[Any], tmp_path: Path) -> None:
    install(tmp_path, "foreign_fruit", "class LIME:\n    name = 'lime'", "LIME")
    assert fruits.own("pear") and not fruits.own("lime") and not fruits.own("cherry")
    said = "^the fruit 'lime' of foreign_fruit 1.2 failed: {}; mend that package or uninstall it$"
    for error, told in ((KeyError("pip"), "KeyError: 'pip'"), (SystemExit(3), r"it tried .*SystemExit: 3\)")):
        with pytest.raises(ConfigError, match=said.format(told)), fruits.using("lime") as lime:
            assert lime is fruits["lime"]
            raise error
    for through in (StillroomError("sour"), MemoryError(), KeyboardInterrupt(), OSError("dry")):
        with pytest.raises(type(through)), fruits.using("lime", OSError):
            raise through
    with pytest.raises(KeyError, match="pip"), fruits.using("pear"):  # an error of the program
        raise KeyError("pip")
