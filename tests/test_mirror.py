"""Tests mirror the rooms: the tests of FLOOR/ROOM/MODULE.py are in tests/FLOOR/ROOM/test_MODULE.py.

Beside them stand tests of several modules together, such as whole runs.
"""

import ast
from pathlib import Path

import pytest

from tests.conftest import LONGEST

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "pipeline", "trainer", "jobs")
# Folders of objects that a registry finds, tested together over whatever it finds.
TOGETHER = {
    "schemas/cache/codecs": "tests/schemas/cache/test_codec.py",
    "schemas/cache/kinds": "tests/schemas/cache/kinds/test_listed.py",
    "schemas/configs/losses": "tests/schemas/configs/test_losses.py",
    "schemas/conversations/layouts": "tests/schemas/conversations/test_layout.py",
    "schemas/models/decoders": "tests/schemas/models/test_state_decoder.py",
    "schemas/storage/storages": "tests/schemas/storage/test_storage.py",
    "schemas/texts/formats": "tests/schemas/texts/test_records.py",
    "pipeline/importing/layouts": "tests/pipeline/importing/test_layout.py",
    "pipeline/annotation/annotators": "tests/pipeline/annotation/test_annotators.py",
    "pipeline/teacher/kinds": "tests/pipeline/teacher/test_kinds.py",
    "trainer/evaluation/metrics": "tests/trainer/evaluation/test_metric.py",
    "jobs/commands": "tests/jobs/test_cli.py",  # not found by a registry, but listed
}
# Modules that are nothing without others, by what tests them.
ELSEWHERE = {
    "pipeline/cluster/actors.py": "tests/pipeline/cluster/test_extract.py",  # Ray's side of a schedule: needs a Ray
    "pipeline/cluster/annotating.py": "tests/pipeline/cluster/test_extract.py",  # as the actors are
    "pipeline/cluster/tasks.py": "tests/jobs/sweep/test_on_ray.py",  # what the tasks are for
    "pipeline/cluster/metrics.py": "tests/pipeline/cluster/test_extract.py",  # needs a Ray
    "pipeline/cluster/submission.py": "tests/jobs/test_ray_job.py",  # a real cluster's job server
    "pipeline/output/seal.py": "tests/pipeline/output/test_elsewhere.py",  # the end of every extraction
    "schemas/cache/hollow.py": "tests/pipeline/output/test_elsewhere.py",  # what a resumed extraction finds
    "jobs/submit/follow.py": "tests/jobs/test_ray_job.py",
    "jobs/submit/submit.py": "tests/jobs/test_ray_job.py",
    "pipeline/importing/numbers.py": "tests/pipeline/importing/test_run.py",  # of whole imports
    "pipeline/importing/samples.py": "tests/pipeline/importing/test_run.py",
    "jobs/inspect_student.py": "tests/jobs/test_inspect.py",  # an option of that command
    "trainer/objectives/kernels/triton_rows.py": "tests/trainer/objectives/kernels/test_fused.py",  # it launches them
}


def modules() -> list[Path]:
    """Those that do something: a module without a function only declares, and is tested where it is used."""
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in found if path.name != "__init__.py" and does_something(path)]


def does_something(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.Lambda) for node in ast.walk(tree))


def place_of_tests(module: str) -> str:
    """`tests/schemas/texts/test_lines.py` of `schemas/texts/lines.py`."""
    folder, name = Path(module).parent.as_posix(), Path(module).stem
    return TOGETHER.get(folder, f"tests/{folder}/test_{name}.py")


def test_every_module_has_its_tests() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in modules()]
    assert len(names) > 150
    missing = {
        name: place_of_tests(name) for name in names if not (ROOT / ELSEWHERE.get(name, place_of_tests(name))).is_file()
    }
    assert missing == {}


def test_no_exception_is_left_over() -> None:
    assert [folder for folder in TOGETHER if not (ROOT / folder).is_dir()] == []
    assert [name for name in ELSEWHERE if not (ROOT / name).is_file() or (ROOT / place_of_tests(name)).is_file()] == []


def test_the_files_that_are_tested_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_hold_one_idea(package: str) -> None:
    """Files of up to 420 lines, functions of up to 50."""
    files = sorted((ROOT / "tests" / package).rglob("*.py"))
    long = [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 420]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 50:
                long.append(f"{path.name}: {node.name}")
    assert long == []
