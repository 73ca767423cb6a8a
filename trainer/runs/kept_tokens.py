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
from trainer.runs.folder import TOKENIZER
from trainer.runs.inputs import Inputs


def keep_tokens(config: TrainingConfig, cache: Path, inputs: Inputs, tokenize: TextTokenizer) -> KeptTexts:
    """A tokenizer that keeps what `tokenize` makes, beside `cache` or where the config says, and knows what was kept.

    Raises RunError if the config names a place that no folder can be made at; of the place beside the cache it is said
    when there is something to be written.
    """
    files = inputs.hashes.get(TOKENIZER) or hash_tokenizer(cache / TEACHER)
    identity = identify(config.student, inputs.tokenizer, files, inputs.conversations)
    return KeptTexts(tokenize, KeptFolder(_place(config.tokens_folder, cache), identity))


def _place(given: Path | None, cache: Path) -> Path:
    if given is None:
        found = cache.resolve()  # runs that name it otherwise share
        return found.with_name(f"{found.name}.tokens")
    if not given.is_dir():  # one that is there may be read by whoever cannot write it
        if given.exists():
            raise RunError(f"tokens_folder {given} is a file; give a folder")
        require_writable(given)
    require_apart(given)
    return given
