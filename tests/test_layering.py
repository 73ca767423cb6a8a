"""The house's walls: jobs -> {pipeline, trainer} -> schemas, heavy libraries where they belong, files of one idea."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.commands import run

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "pipeline", "trainer", "jobs")
ALLOWED = {
    "schemas": {"schemas"},
    "pipeline": {"pipeline", "schemas"},
    "trainer": {"trainer", "schemas"},
    "jobs": {"jobs", "pipeline", "trainer", "schemas"},
}
# The rooms of each floor, from the general to the specific: a room imports those before it.
ROOMS = {
    "schemas": ("storage", "texts", "cache", "conversations", "configs", "models"),
    "pipeline": (
        "corpus", "annotation", "encoding", "teacher", "request", "replay", "output", "importing", "work", "cluster",
    ),
    "trainer": (
        "numerics", "alignment", "kept_texts", "data", "student", "objectives", "optimisation", "evaluation", "runs",
        "generation",
    ),
    "jobs": ("report", "sweep", "submit", "demo", "commands"),
}  # fmt: skip
# Where a library may be imported at all; one that is not named may be imported anywhere.
HOMES = {
    "ray": {"pipeline/cluster/"},
    "spacy": {"pipeline/"},
    "textblob": {"pipeline/"},
    "torch": {"pipeline/", "trainer/", "jobs/", "schemas/models/"},
    "transformers": {"pipeline/", "trainer/", "jobs/", "schemas/models/"},
    "matplotlib": {"jobs/report/curves.py"},
    "triton": {"trainer/objectives/kernels/triton_rows.py"},
    "pickle": set(),
}


def files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of every module that is imported anywhere below `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            yield str(node.module)


@lru_cache(None)
def imports_of(path: Path) -> tuple[str, ...]:
    """The same of a file, which is read once."""
    return tuple(imports(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports_of(path)}


def test_every_package_is_read() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in files()} == set(PACKAGES)
    assert len(files()) > 40


def test_imports_run_one_way() -> None:
    wrong = [
        f"{name(path)} imports {other}"
        for path in files()
        for other in sorted((imported(path) & {*PACKAGES, "tests"}) - ALLOWED[path.relative_to(ROOT).parts[0]])
    ]
    assert wrong == []


def rooms_imported(path: Path) -> set[str]:
    """`schemas.cache` for every room of its own floor that a file imports, and `schemas.errors` for single modules."""
    floor = path.relative_to(ROOT).parts[0]
    return {".".join(module.split(".")[:2]) for module in imports_of(path) if module.split(".")[0] == floor}


def room(path: Path) -> str:
    """`schemas.cache` of a file in that folder, `schemas.errors` of the module itself."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts[:2]).removesuffix(".__init__")


def test_every_room_has_its_place() -> None:
    found = {floor: {path.parent.name for path in (ROOT / floor).glob("*/__init__.py")} for floor in PACKAGES}
    assert found == {floor: set(rooms) for floor, rooms in ROOMS.items()}


def test_rooms_import_one_way() -> None:
    places = {f"{floor}.{name}": place for floor, rooms in ROOMS.items() for place, name in enumerate(rooms)}
    wrong = [
        f"{name(path)} imports {other}"
        for path in files()
        for other in sorted(rooms_imported(path))
        if room(path) in places and other in places and places[other] > places[room(path)]
    ]
    assert wrong == []


def test_no_room_or_module_imports_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in files():
        graph.setdefault(room(path), set()).update(rooms_imported(path) - {room(path)})
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_what_tests_share_is_in_plain_modules() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    for path in [path for path in files if ".test_" in path.read_text(encoding="utf-8")]:  # to parse them all takes 2 s
        found = [module for module in imports_of(path) if module.startswith("tests.") and ".test_" in module]
        assert not found, f"{name(path)} imports {', '.join(found)}"


def test_heavy_libraries_stay_at_home() -> None:
    wrong = [
        f"{name(path)} imports {library}"
        for path in files()
        for library in sorted(imported(path) & HOMES.keys())
        if not any(name(path).startswith(home) for home in HOMES[library])
    ]
    assert wrong == []


def test_model_files_imports_transformers_when_it_is_used_only() -> None:
    for module in ("files", "hashes", "tokenizer", "tokenizer_rules", "weights"):
        tree = ast.parse((ROOT / f"schemas/models/{module}.py").read_text(encoding="utf-8"))
        at_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {module.split(".")[0] for node in at_top for module in imports(node)}
        assert not modules & {"transformers", "huggingface_hub", "torch"}


def loaded(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after `statement`, which writes them to stderr."""
    code = f"{statement}\nimport sys\nprint(*sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_the_trainer_runs_without_the_pipeline() -> None:
    """Beside torch, transformers and what these bring along."""
    modules = [name(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in files()]
    of_trainer = [module for module in modules if module.split(".")[0] == "trainer"]
    code = "import sys\nbefore = set(sys.modules)\n" + "\n".join(f"import {module}" for module in of_trainer)
    done = run(["-c", f"{code}\nprint('before:', *before, '\\nafter:', *sys.modules)"])
    assert done.returncode == 0, done.stderr
    before, found = ({each.split(".")[0] for each in line.split()} for line in done.stdout.splitlines())
    assert "torch" in before and {"trainer", "schemas"} <= found
    assert not found & {"ray", "spacy", "textblob", "nltk", "pipeline", "jobs", "matplotlib"}


def test_annotators_start_without_torch() -> None:
    """A machine has a dozen of them, and to import torch and a teacher takes each some five seconds."""
    assert not loaded("import pipeline.cluster.annotating") & {"torch", "transformers"}


def test_reading_a_config_needs_no_torch() -> None:
    found = loaded(
        "import schemas.configs.extraction, schemas.configs.training, schemas.configs.yaml, schemas.cache.manifest, "
        "schemas.models.files"
    )
    assert "pydantic" in found
    assert not found & {"torch", "transformers", "ray", "spacy"}


def loaded_by(commands: list[list[str]], code: int) -> set[str]:
    """The same after all these commands, one after the other, each of which ends with `code`."""
    return loaded(
        "import sys\nfrom jobs.cli import main\n"
        f"for command in {commands!r}:\n"
        "    sys.argv = ['stillroom', *command]\n"
        "    try: main()\n"
        f"    except SystemExit as end: assert (end.code or 0) == {code}, command"
    )


def test_a_mistake_in_a_config_is_told_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("nonsense: 1\n")
    found = loaded_by([[command, str(tmp_path / "c.yaml")] for command in ("plan", "extract", "train", "generate")], 2)
    assert not found & {"torch", "transformers", "ray", "spacy", "zarr", "pandas"}


def test_the_command_line_answers_before_anything_heavy_is_loaded() -> None:
    found = loaded_by([["--help"], ["train", "--help"], ["extract", "--help"], ["schema", "train"]], 0)
    assert {"jobs", "typer"} <= found
    assert not found & {"torch", "transformers", "ray", "spacy", "zarr", "matplotlib", "textblob"}


def test_files_hold_one_idea() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert {path: length for path, length in lengths.items() if length > 500} == {}
    assert statistics.median(lengths.values()) < 150


def test_names_say_what_a_module_is_for() -> None:
    vague = {"utils", "helpers", "common", "misc", "manager"}
    assert [name(path) for path in files() if vague & {*path.relative_to(ROOT).with_suffix("").parts}] == []


def test_nothing_is_left_for_later() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "X" + "XX")
    wrong = [name(path) for path in files() if any(mark in path.read_text(encoding="utf-8") for mark in marks)]
    assert wrong == []
