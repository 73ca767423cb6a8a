"""What an installation is made of: extras, the console script, ready-made configs, and one version everywhere."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from schemas.configs.extraction import ExtractionConfig
from schemas.configs.generation import GenerationConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.strict import Strict

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONFIGS = sorted((ROOT / "jobs/configs").glob("*.yaml"))


def names(requirements: list[str]) -> set[str]:
    return {Requirement(requirement).name for requirement in requirements}


def test_the_trainer_installs_without_the_pipeline() -> None:
    extras = PROJECT["optional-dependencies"]
    for requirements in (PROJECT["dependencies"], extras["trainer"]):
        assert not names(requirements) & {"ray", "spacy", "textblob", "stillroom"}
    assert not names(PROJECT["dependencies"]) & {"torch", "transformers"}
    assert {"torch", "transformers"} <= names(extras["trainer"])
    assert {"ray", "spacy"} <= names(extras["pipeline"])


def test_every_requirement_has_a_floor_and_torch_a_ceiling() -> None:
    listed = [Requirement(text) for group in PROJECT["optional-dependencies"].values() for text in group]
    listed += [Requirement(text) for text in PROJECT["dependencies"]]
    loose = {r.name for r in listed if not any(s.operator == ">=" for s in r.specifier)}
    assert loose == {"stillroom", "types-PyYAML"}
    pinned = re.search(r"^TORCH +\?= torch==(\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    for requirement in listed:
        if requirement.name == "torch":
            assert Version(pinned[1]) in requirement.specifier
            assert any(s.operator == "<" for s in requirement.specifier)
    for image in ("pipeline", "trainer"):
        assert f"torch=={pinned[1]}" in (ROOT / f"docker/{image}.Dockerfile").read_text(encoding="utf-8")


def test_the_version_is_in_the_changelog() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_ready_made_configs_are_valid(path: Path) -> None:
    models: dict[str, type[Strict]] = {
        "extract": ExtractionConfig,
        "generate": GenerationConfig,
        "train": TrainingConfig,
    }
    config = load_config(path, models[path.stem.split("-")[0]])
    if isinstance(config, TrainingConfig):
        assert str(config.cache) in {
            str(load_config(p, ExtractionConfig).output) for p in CONFIGS if "extract" in p.stem
        }
        named = {loss.name for loss in config.objective} | ({"distillm2"} if config.student_cache else set())
        assert path.stem.removeprefix("train-") in named
    assert f"jobs/configs/{path.name}" in path.read_text(encoding="utf-8")  # says how it is run


def test_there_is_a_config_for_every_way() -> None:
    assert [path.stem for path in CONFIGS] == [
        "extract-instruct", "extract-sentences", "extract-stories", "generate",
        "train-ce", "train-distillm2", "train-kd", "train-mta", "train-sra", "train-talas",
    ]  # fmt: skip


def test_compose_builds_what_is_here() -> None:
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"head", "worker"}
    for service in compose["services"].values():
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert "--head" in compose["services"]["head"]["command"]
    assert "--address=head:6379" in compose["services"]["worker"]["command"]


def test_images_copy_every_package() -> None:
    for image in ("pipeline", "trainer"):
        text = (ROOT / f"docker/{image}.Dockerfile").read_text(encoding="utf-8")
        for package in ("schemas", "pipeline", "trainer", "jobs"):
            assert f"COPY {package} {package}\n" in text


def test_images_install_every_extra_of_their_side() -> None:
    """What a config may ask for is there: a GGUF file, a URL, a teacher that is spread."""
    (everything,) = PROJECT["optional-dependencies"]["all"]
    extras = set(everything.removeprefix("stillroom[").removesuffix("]").split(","))
    lacking = {"pipeline": {"trainer"}, "trainer": {"pipeline", "spread"}}  # no teacher runs in the latter
    for image, left_out in lacking.items():
        text = (ROOT / f"docker/{image}.Dockerfile").read_text(encoding="utf-8")
        (found,) = re.findall(r"pip install --no-cache-dir '\.\[([a-z,]+)\]'\n", text)
        assert sorted(found.split(",")) == sorted(extras - left_out)
