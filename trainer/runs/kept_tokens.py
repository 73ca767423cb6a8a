"""Where a run keeps the student's tokens, so that fifty students of one cache tokenize it once."""

from pathlib import Path

from schemas.cache.manifest import TEACHER
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.models.hashes import hash_tokenizer
from schemas.storage.writable import require_apart, require_writable
from trainer.alignment.student_text import TextTokenizer
from trainer.kept_texts.folder import KeptFolder
from trainer.kept_texts.identity import identify
from trainer.kept_texts.kept_texts import KeptTexts
from trainer.runs.inputs import Inputs
from trainer.runs.record import TOKENIZER


def keep_tokens(config: TrainingConfig, cache: Path, inputs: Inputs, tokenize: TextTokenizer) -> KeptTexts:
    """A tokenizer that keeps what `tokenize` makes, beside `cache` or where the config says, and knows what was kept.

    Raises RunError if the config names a place that no folder can be made at; of the place beside the cache it is said
    when there is something to be written.
    """
    files = inputs.hashes.get(TOKENIZER) or hash_tokenizer(cache / TEACHER)
    identity = identify(config.student, inputs.tokenizer, files, inputs.conversations)
    if config.tokens_folder is None:
        found = cache.resolve()  # runs that name it otherwise share
        return KeptTexts(tokenize, KeptFolder(found.with_name(f"{found.name}.tokens"), identity))
    _require_folder(config.tokens_folder)
    folder = KeptFolder(config.tokens_folder, identity)
    require_apart(folder.path)
    return KeptTexts(tokenize, folder)


def _require_folder(given: Path) -> None:
    """One that is there may be read by whoever cannot write it."""
    if given.is_dir():
        return
    if given.exists() or given.is_symlink():
        raise RunError(f"tokens_folder {given} is not a folder; give another place")
    require_writable(given)
