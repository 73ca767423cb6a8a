"""Hostile inputs of every kind that a user can hand over: each ends in one clear message in time, or does no harm.

No code of theirs is run, nothing is written outside the working directory, no memory is filled.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.jobs import hostile
from tests.jobs.hostile_inputs import caches, configs, corpora, models
from tests.jobs.hostile_inputs.watch import forget_peak, look, peak_bytes, watched
from tests.jobs.hostile_inputs.world import Input, make_world

INPUTS: dict[str, Input] = {
    f"{module.__name__.rpartition('.')[2]}: {name}": given
    for module in (corpora, configs, caches, models)
    for name, given in module.INPUTS.items()
}
MOST_BYTES = 300 << 20  # beyond what the process had


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the world with a home and a place for temporary files of its own."""
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "TMPDIR"))
    monkeypatch.setenv("STILLROOM_PWNED", str(tmp_path / "pwned"))
    return Path(shutil.copytree(world, tmp_path / "here"))


@pytest.mark.parametrize("name", INPUTS)
def test_a_hostile_input_ends_in_one_message(here: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    given = INPUTS[name]
    with contextlib.chdir(here):
        given.change()
        before, beside, had = look(here), set(here.parent.iterdir()), forget_peak()
        with watched(here) as done:
            outcome = hostile.run(given.command)
        grown = peak_bytes() - had
    said = " ".join(f"{outcome.said} {caplog.text}".split()).replace(f"{here}/", "")
    assert outcome.is_sound and outcome.code == given.code, f"{outcome.code} after {outcome.seconds:.1f} s\n{said}"
    assert given.said in said
    assert given.code == 0 or said.count("stillroom: ") == 1
    assert not done and set(here.parent.iterdir()) == beside and not list(here.glob("**/pwned"))
    assert grown < MOST_BYTES
    if given.code != 0 and given.command[0] not in ("sweep", "repair"):  # a sweep's folder; shards that are dropped
        after = look(here)
        assert {place: after.get(place) for place in before} == before


def test_there_are_enough_of_them() -> None:
    assert len(INPUTS) >= 80
    assert {given.command[0] for given in INPUTS.values()} >= {
        "plan", "extract", "import", "inspect", "verify", "repair", "reindex", "diff", "train", "sweep", "generate",
        "evaluate", "compare", "presets",
    }  # fmt: skip
