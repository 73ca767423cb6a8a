"""The tokenizer that made a cache's tokens, opened from the files that the cache keeps."""

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.cache.manifest import TEACHER, CacheManifest
from schemas.models.teacher_proof import prove_teacher
from schemas.models.tokenizer import LoadedTokenizer, load_chosen_tokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# In the identity of a cache, under `teacher`, where tokenizer.json was followed against AutoTokenizer.
RULES, OF_THE_FILE = "tokenizer_rules", "tokenizer.json"


def rules_of(loaded: LoadedTokenizer) -> dict[str, str | None]:
    """What an identity says: nothing where AutoTokenizer follows tokenizer.json, so earlier ones stay the same."""
    return {} if loaded.set_aside is None else {RULES: OF_THE_FILE}


def load_teacher_tokenizer(cache: Path, manifest: CacheManifest) -> "PreTrainedTokenizerFast":
    """The teacher's tokenizer, with the rules that ran. Raises TokenizerError, or CacheError for one that was altered.

    Caches whose tokenizer.json AutoTokenizer follows say nothing; neither do those made before the two were compared.
    """
    prove_teacher(cache, manifest)
    of_the_file = manifest.identity.get("teacher", {}).get(RULES) == OF_THE_FILE
    return (load_tokenizer if of_the_file else load_chosen_tokenizer)(cache / TEACHER)
