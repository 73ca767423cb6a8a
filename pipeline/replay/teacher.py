"""The teacher of a cache, loaded once more: the same files, computing as they did."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pipeline.replay.placing import Placing
from pipeline.request.folders import ModelFolders, hash_teacher
from pipeline.teacher.quantise import way_of
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from schemas.cache.manifest import TEACHER, CacheManifest
from schemas.configs.extraction import Placement, TeacherConfig
from schemas.errors import CacheError, ConfigError, ModelError, ResourceError
from schemas.models.files import resolve_model
from schemas.models.teacher_head import load_teacher_head

WHEREVER = Placing()
PARTS = ("weights", "config", "code", "adapter")  # not the tokenizer: a cache keeps its tokens


def find_teacher(manifest: CacheManifest, teacher: str | None, adapter: str | None) -> ModelFolders:
    """The folders of the names given; without one, of the hub id that the cache keeps.

    Raises ConfigError: it keeps the name of a folder alone; ModelError: there is no such model.
    """
    name = manifest.teacher.model if teacher is None else teacher
    if teacher is None and "/" not in name:
        raise ConfigError(f"the cache keeps only the name of its teacher's folder, {name!r}: give it by --teacher")
    folder = resolve_model(name, None)
    return ModelFolders(folder, folder, None if adapter is None else resolve_model(adapter, None))


def require_same_files(
    cache: Path, manifest: CacheManifest, folders: ModelFolders, trust_remote_code: bool = False
) -> None:
    """Raises ModelError unless the files in `folders` are, by their hashes, those that the cache was made with.

    Reads every weight once.
    """
    identity, found = manifest.identity["teacher"], hash_teacher(folders, trust_remote_code)
    if "imported" in manifest.identity and "weights" not in identity:
        raise CacheError(
            f"{cache} was imported without the teacher's weights, so nothing tells which teacher gives its "
            "numbers: it cannot be replayed"
        )
    if wrong := [part for part in PARTS if found.get(part) != identity.get(part)]:
        raise ModelError(
            f"{folders.model} is not the teacher that {cache} was made with: {', '.join(wrong)} differ{_way_out(wrong)}"
        )


def load_teacher_of(
    cache: Path,
    manifest: CacheManifest,
    folders: ModelFolders,
    trust_remote_code: bool = False,
    placing: Placing = WHEREVER,
) -> Teacher:
    """The teacher in `folders`, computing as in the extraction, with the head that the cache keeps, wherever its layers
    lay there and are to lie here.

    Raises ModelError: it cannot be loaded; ConfigError: it cannot lie as `placing` asks; CacheError: the cache keeps
    another head; ResourceError: there is no memory for it.
    """
    config = _config(manifest, manifest.identity["teacher"], folders, trust_remote_code, placing)
    try:
        teacher = Teacher(config, WantedStates.of_cache(manifest), folders.model, folders.adapter)
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"the GPU has no memory for the teacher ({error}); spread it by --placement spread, use a larger one, or "
            "none: CUDA_VISIBLE_DEVICES= "
        ) from error
    _require_same_head(cache, manifest, teacher)
    return teacher


def _way_out(wrong: list[str]) -> str:
    adapter = "; give the LoRA adapter that was merged by --adapter" if "adapter" in wrong else ""
    code = "; code of its own is run with --trust-remote-code alone" if "code" in wrong else ""
    return adapter + code


def _config(
    manifest: CacheManifest,
    identity: Mapping[str, Any],
    folders: ModelFolders,
    trust_remote_code: bool,
    placing: Placing,
) -> TeacherConfig:
    """As it was in the extraction; on a CPU where there is no GPU, and where `placing` has it."""
    on_gpu = identity.get("device", "cpu") == "cuda" and torch.cuda.is_available()
    device, quantisation = "cuda" if on_gpu else "cpu", way_of(manifest.teacher.quantisation)
    placement: Placement = "device"  # where an adapter is merged into it, or it is quantised as it is loaded
    if placing.asks or (folders.adapter is None and quantisation is None):
        placement = placing.choose(folders.model, identity["dtype"], device, trust_remote_code)
    settings = {
        "model": str(folders.model),
        "kind": manifest.teacher.kind,
        "adapter": None if folders.adapter is None else str(folders.adapter),
        "trust_remote_code": trust_remote_code,
        "dtype": identity["dtype"],
        "device": device,
        "quantisation": quantisation,
        "placement": placement,
        "max_memory": placing.max_memory,
        "threads": identity["threads"],
        "max_tokens": manifest.teacher.max_tokens,
        "append_eos": identity["append_eos"],
        "keep_embeddings": manifest.teacher.embedding is not None,
    }
    try:
        return TeacherConfig.model_validate(settings)
    except ValidationError as error:
        said = [each["msg"].removeprefix("Value error, ") for each in error.errors()]
        raise ConfigError("\n".join(said)) from error


def _require_same_head(cache: Path, manifest: CacheManifest, teacher: Teacher) -> None:
    kept = load_teacher_head(cache, manifest)
    if kept is None:
        return
    weight_Vd, bias_V = teacher.head()
    same = torch.equal(kept.weight_Vd, weight_Vd.float().cpu())
    if bias_V is not None:
        same = same and kept.bias_V is not None and torch.equal(kept.bias_V, bias_V.float().cpu())
    if not same:
        raise CacheError(
            f"the unembedding in {cache / TEACHER} is not that of {teacher.folder}; remove that folder and extract "
            "again: no shard is redone"
        )
