"""What a run reads anew whenever it goes on: its tokenizer, the model below an adapter, and
what is held out. run.json keeps their hashes.

The rest of what it reads is in its checkpoint, or in a cache, whose fingerprint is in run.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.cache.manifest import read_manifest
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.errors import RunError
from schemas.models.files import resolve_model
from schemas.models.hashes import hash_model, hash_tokenizer
from schemas.storage.fingerprint import differences, fingerprint
from trainer.alignment.student_conversation import ConversationReader
from trainer.evaluation.held_out import HeldOut
from trainer.runs.record import BASE, CHAT_TEMPLATE, HELD_OUT, TOKENIZER
from trainer.student.chat_template import conversation_reader, saved_template, template_hash
from trainer.student.load import find_tokenizer, load_student_tokenizer


@dataclass(frozen=True)
class Inputs:
    """The tokenizer, the chat template and the held-out material as they were read, and their hashes by what they are
    of."""

    tokenizer: Any
    held_out: HeldOut | None
    hashes: dict[str, str]
    conversations: ConversationReader | None = None  # how the student reads those of the cache


def read_inputs(config: TrainingConfig, cache: Path) -> Inputs:
    """Read what `config` names; `cache` keeps the teacher's tokenizer, which has its hash there.

    Raises TokenizerError or ModelError; ConfigError or CorpusError as `HeldOut` does.
    """
    held_out = HeldOut(config.evaluation, config.student) if config.evaluation else None
    tokenizer = load_student_tokenizer(config.student, cache)
    hashes = {}
    reader = conversation_reader(config.student, tokenizer, cache, read_manifest(cache).conversations)
    if reader is not None:
        tokenizer.chat_template = saved_template(reader)
        hashes[CHAT_TEMPLATE] = template_hash(reader)
    if (folder := find_tokenizer(config.student)) is not None:
        hashes[TOKENIZER] = hash_tokenizer(folder, config.student.trust_remote_code)
    if config.student.adapter is not None:
        hashes[BASE] = _hash_base(config.student)
    if held_out is not None:
        hashes[HELD_OUT] = held_out.hash
    return Inputs(tokenizer, held_out, hashes, reader)


def _hash_base(student: StudentConfig) -> str:
    """Of what a model computes with, not of its tokenizer."""
    assert student.model is not None  # an adapter has one
    hashes = hash_model(resolve_model(student.model, student.revision), student.trust_remote_code)
    return fingerprint({part: found for part, found in hashes.items() if part != "tokenizer"})


def require_same_inputs(
    config: TrainingConfig, recorded: Mapping[str, str] | None, inputs: Inputs, checkpoint: Path | None
) -> None:
    """Raises RunError if the run would go on from `checkpoint` with others than `recorded`: its curve and its student
    would be of two halves. Runs of earlier versions recorded none."""
    if checkpoint is None or recorded is None:
        return
    lines = list(differences(dict(recorded), inputs.hashes))
    if lines:
        held_out = config.evaluation and (config.evaluation.texts or config.evaluation.pairs)
        named = {
            BASE: config.student.model,
            TOKENIZER: config.student.tokenizer or config.student.model,
            CHAT_TEMPLATE: config.student.chat_template or "the tokenizer's",
            HELD_OUT: held_out,
        }
        changed = [f"{key} ({place})" for key, place in named.items() if recorded.get(key) != inputs.hashes.get(key)]
        raise RunError(
            f"{checkpoint} was made with other contents of {' and '.join(changed)}; put back what the run began with, "
            "or give this one another `output`. The hashes differ in\n  " + "\n  ".join(lines)
        )
