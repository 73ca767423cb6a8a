"""What cache.json says of the teacher, proven by what is kept of it, in caches made before checksums existed."""

from pathlib import Path
from typing import Any

from schemas.cache.checksums import read_checksums
from schemas.cache.manifest import MANIFEST, TEACHER, CacheManifest
from schemas.errors import CacheError, StillroomError
from schemas.models.files import quiet_transformers
from schemas.models.hashes import hash_config
from schemas.models.logits import LogitTransform
from schemas.models.tokenizer import tokenizer_files
from schemas.storage.fingerprint import hash_files


def prove_teacher(cache: Path, manifest: CacheManifest) -> None:
    """The tokenizer hashes to what the identity says; so does config.json, and the sizes and the logit formula are its.

    Does nothing in a cache whose checksums cover the teacher's files; nor with config.json, where another folder's
    tokenizer was used and so its config.json was kept. Raises CacheError that names what differs.
    """
    teacher, hashes = cache / TEACHER, manifest.identity.get("teacher")
    if not isinstance(hashes, dict) or _is_covered(cache, manifest):
        return
    if hash_files(teacher, tokenizer_files(teacher)) != hashes.get("tokenizer"):
        raise CacheError(f"the tokenizer in {teacher} is not the one that the cache was made with; extract again")
    config = _read_config(teacher, hashes.get("config"))
    if config is None:
        return
    record, head = manifest.teacher, manifest.teacher.head
    formula = None if head is None else LogitTransform.of(config)
    for name, said, found in (
        ("num_layers", record.num_layers, config.num_hidden_layers),
        ("hidden_size", record.hidden_size, config.hidden_size),
        ("head.scale", head and head.scale, formula and formula.scale),
        ("head.softcap", head and head.softcap, formula and formula.softcap),
    ):
        if said != found:
            raise CacheError(
                f"{cache / MANIFEST} was altered: teacher.{name} is {said}, and by teacher/config.json it is {found}; "
                "extract again"
            )


def _is_covered(cache: Path, manifest: CacheManifest) -> bool:
    sealed = read_checksums(cache, manifest)
    return sealed is not None and sealed.teacher is not None


def _read_config(teacher: Path, wanted: Any) -> Any:
    """The text model's config, None if it is not the teacher's or of a kind that is not known here."""
    from transformers import AutoConfig

    try:
        if hash_config(teacher) != wanted:
            return None
        with quiet_transformers():
            return AutoConfig.from_pretrained(teacher, local_files_only=True).get_text_config()
    except (StillroomError, OSError, ValueError, KeyError):
        return None
