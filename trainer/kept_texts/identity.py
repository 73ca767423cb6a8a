"""What a student's tokens of a text follow from: the identity of what is kept, and a digest of every sample.

A cache is not among it: whatever of a cached sample a tokenizer reads is in its digest. So caches of one corpus may
share what is kept.
"""

from importlib.metadata import version
from typing import Any

import xxhash
from transformers import PreTrainedTokenizerBase

from schemas.cache.samples import CachedSample
from schemas.configs.training import StudentConfig
from schemas.models.chat_template import special_spellings
from trainer.alignment.student_conversation import ConversationReader
from trainer.alignment.student_text import ends_with_special

# Of the code that makes a StudentText of a sample: raise it with every change of what it makes.
MEANING = 1
LIBRARIES = ("jinja2", "tokenizers", "transformers")  # another version may cut a text otherwise

Digest = tuple[int, int]  # 128 bits


def identify(
    config: StudentConfig, tokenizer: PreTrainedTokenizerBase, files: str, reader: ConversationReader | None
) -> dict[str, Any]:
    """All that the tokens follow from, except the sample. `files` is the hash of those that `tokenizer` came from."""
    return {
        "meaning": MEANING,
        "libraries": {name: version(name) for name in LIBRARIES},
        "kind": config.kind,
        "max_tokens": config.max_tokens,
        "append_eos": config.append_eos,
        "tokenizer": {"files": files, "class": type(tokenizer).__name__, "eos": tokenizer.eos_token_id},
        "template": None if reader is None else _identify_template(reader, tokenizer),
    }


def _identify_template(reader: ConversationReader, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    template = reader.template
    return {
        "source": template.source,
        "special_tokens": dict(template.special_tokens),
        "spellings": list(special_spellings(tokenizer)),
        "arguments": dict(template.arguments),
        "today": None if template.today is None else template.today.isoformat(),
        "is_teachers": reader.is_teachers,
    }


def digest_of(sample: CachedSample) -> Digest:
    """128 bits over all of a sample that its tokens follow from. Takes some microseconds."""
    whole = xxhash.xxh3_128(sample.text.encode("utf-8", "surrogatepass"))
    whole.update(sample.targets.tobytes() + bytes([sample.truncated, ends_with_special(sample)]))
    if sample.is_conversation:
        whole.update(f"{sample.structure}\0{sample.turns!r}".encode("utf-8", "surrogatepass"))
    return divmod(whole.intdigest(), 1 << 64)
