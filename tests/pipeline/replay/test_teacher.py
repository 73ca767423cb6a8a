"""The teacher of a cache is known by its files before it is loaded, and by the head that the cache keeps."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.replay.placing import Placing
from pipeline.replay.replay import replay
from pipeline.replay.teacher import find_teacher, load_teacher_of, require_same_files
from schemas.cache.manifest import UNEMBEDDING, read_manifest
from schemas.cache.reader import Cache
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.errors import CacheError, ConfigError, ModelError
from tests.caches import build_cache
from tests.pipeline.replay.faults import cache_of, config_of, make_material
from tests.pipeline.teacher.tiny_models import memory_for_half

FORMS: dict[str, dict[str, Any]] = {
    "exact": {"hidden": [0, 1, 3], "mass": [1], "top_k": {"k": 8}, "sampled": {"draws": 12}, "encoding": "exact"},
    "small": {"hidden": [1, 3], "mass": [3], "dtype": "bfloat16", "encoding": "small"},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_material(tmp_path_factory.mktemp("teacher"))
    return build_cache(config_of(folder, "cache", {"hidden": [1], "mass": []}, teacher={"dtype": "bfloat16"}))


def test_it_computes_as_in_the_extraction_wherever_it_lies(cache: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(cache.parent / "teacher", tmp_path / "elsewhere")
    manifest = read_manifest(cache)
    folders = find_teacher(manifest, str(moved), None)
    require_same_files(cache, manifest, folders)
    teacher = load_teacher_of(cache, manifest, folders)
    config = teacher.config
    assert (config.dtype, config.device, config.threads, config.max_tokens) == ("bfloat16", "cpu", 1, 96)
    assert [array.path for array in teacher.arrays] == ["hidden/1"]


def test_another_teacher_is_refused_before_it_is_loaded(cache: Path, tmp_path: Path) -> None:
    manifest, changed = read_manifest(cache), cache.parent / "teacher-changed"
    with pytest.raises(ModelError, match=r"is not the teacher that .* was made with: weights differ$"):
        require_same_files(cache, manifest, find_teacher(manifest, str(changed), None))
    adapted = manifest.model_copy(
        update={"identity": manifest.identity | {"teacher": manifest.identity["teacher"] | {"adapter": "0" * 64}}}
    )
    with pytest.raises(ModelError, match=r"adapter differ; give the LoRA adapter that was merged by --adapter$"):
        require_same_files(cache, adapted, find_teacher(manifest, str(cache.parent / "teacher"), None))
    with pytest.raises(ConfigError, match="only the name of its teacher's folder, 'teacher': give it by --teacher"):
        find_teacher(manifest, None, None)
    with pytest.raises(ModelError, match="there is no model folder"):
        find_teacher(manifest, str(tmp_path / "nothing"), None)


def test_another_head_in_the_cache_is_found(cache: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(cache, tmp_path / "cache"))
    path = copy / "teacher" / UNEMBEDDING
    weight = load_file(path)["weight"]
    weight[3, 5] += 0.5
    save_file({"weight": weight.to(torch.bfloat16)}, path)
    TEACHER_FILES.write_record(copy / "teacher")
    manifest = read_manifest(copy)
    with pytest.raises(CacheError, match=r"the unembedding in .* is not that of"):
        load_teacher_of(copy, manifest, find_teacher(manifest, str(cache.parent / "teacher"), None))


@pytest.mark.parametrize("form", FORMS)
def test_a_teacher_that_is_spread_gives_the_gaps_of_one_that_is_whole(cache: Path, form: str) -> None:
    """Layers, head and embeddings in memory or on disk: every number of the report is the same."""
    config = config_of(cache.parent, f"spread-{form}", FORMS[form], teacher={"keep_embeddings": True})
    made = cache_of(config)
    manifest, folders = read_manifest(made), find_teacher(read_manifest(made), config.teacher.model, None)
    limit = memory_for_half(folders.model)["max_memory"]
    whole, parts = (load_teacher_of(made, manifest, folders, placing=Placing(None, each)) for each in (None, limit))
    assert (whole.config.placement, parts.config.placement) == ("device", "spread")
    assert set(parts._model.hf_device_map.values()) == {"cpu", "disk"}
    for in_batch in (False, True):
        wanted, found = (replay(Cache(made), teacher, 8, 0, in_batch=in_batch) for teacher in (whole, parts))
        assert repr(found) == repr(wanted) and found.faults == []


def test_what_is_changed_while_it_is_loaded_lies_on_one_device(cache: Path, tmp_path: Path) -> None:
    manifest = read_manifest(cache)
    folders = replace(find_teacher(manifest, str(cache.parent / "teacher"), None), adapter=tmp_path)
    with pytest.raises(ConfigError, match="adapter cannot be merged into a model that is spread: merge it before"):
        load_teacher_of(cache, manifest, folders, placing=Placing("spread"))
