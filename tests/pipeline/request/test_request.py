"""A config made definite, from real folders: what is hashed, what is stamped, and what is refused."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from pipeline.request.request import LIBRARIES, make_request
from schemas.cache.annotator import UNANNOTATED
from schemas.errors import ConfigError
from schemas.storage.fingerprint import fingerprint
from tests.pipeline.request.conftest import config


def test_all_is_settled_and_nothing_written(made: Path) -> None:
    before = sorted(path.name for path in made.rglob("*"))
    request = make_request(config(made))
    manifest = request.manifest
    assert manifest.fingerprint == fingerprint(manifest.identity)
    assert (manifest.corpus.samples, manifest.units) == (5, len(request.plan.units))
    assert [array.path for array in manifest.arrays] == ["hidden/1", "mass/1"]
    assert (manifest.teacher.model, manifest.teacher.num_layers, manifest.teacher.hidden_size) == ("teacher", 1, 8)
    assert manifest.annotator.startswith("english 1 (")
    assert make_request(config(made)).manifest == manifest
    assert sorted(path.name for path in made.rglob("*")) == before


def test_without_tokens_nobody_annotates(made: Path) -> None:
    pooled = {"hidden": [], "mass": [], "pooled": {"pooling": "last"}}
    manifest = make_request(config(made, states=pooled)).manifest
    assert manifest.annotator == UNANNOTATED and set(manifest.records) == {"pooled"}


def test_of_ray_alone_nothing_need_be_said(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others are is compared when a cache goes on, so none of them may be passed over."""
    whole = make_request(config(made)).manifest
    assert whole.provenance.keys() == {"python", *LIBRARIES}

    def without(missing: str) -> None:
        def installed(name: str) -> str:
            if name == missing:
                raise PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr("pipeline.request.request.version", installed)

    without("ray")
    found = make_request(config(made)).manifest
    assert found.provenance == {name: said for name, said in whole.provenance.items() if name != "ray"}
    assert found.fingerprint == whole.fingerprint
    without("tokenizers")
    with pytest.raises(PackageNotFoundError, match="tokenizers"):
        make_request(config(made))


def test_a_gpu_that_ray_does_not_assign_is_refused(made: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^teacher\.device is cuda, but workers\.gpus is 0: .* set workers\.gpus to 1$"
    ):
        make_request(config(made, teacher={"device": "cuda"}))
