"""What `stillroom evaluate` measures on, as its options name it: texts, pairs or conversations.

`--conversations` names a layout, or the options of a corpus of conversations.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.configs.conversations import ConversationsConfig
from schemas.configs.parse import parse_yaml
from schemas.errors import ConfigError
from trainer.evaluation.held_out import read_material
from trainer.evaluation.held_out_conversations import read_conversations
from trainer.evaluation.metric import Metric, find_metric

OPTION = "--conversations"


def choose_material(
    text: Path | None,
    pairs: Path | None,
    field: str,
    conversations: str | None,
    chat_template: str | None,
    limit: int | None,
    metric: str | None,
) -> tuple[Metric, Sequence[Any]]:
    """The metric and what it is measured on. Raises ConfigError that names the options, CorpusError."""
    if (text is None) == (pairs is None):
        raise ConfigError("give --text for language models, or --pairs for sentence encoders")
    if conversations is None and chat_template is None:
        found = find_metric(metric, "pairs" if text is None else "texts")
        return found, read_material(text, pairs, field, limit)
    if text is None or conversations is None:
        raise ConfigError(f"--chat-template goes with {OPTION}, and that with --text")
    found = find_metric(metric, "conversations")
    return found, read_held_out(text, conversations, limit, chat_template)


def read_held_out(path: Path, given: str, limit: int | None, chat_template: str | None) -> Sequence[Any]:
    """The first `limit` conversations of a file. Raises ConfigError that names the option, CorpusError."""
    return read_conversations(path, parse_conversations(given), limit, chat_template)


def parse_conversations(given: str) -> ConversationsConfig:
    """The options in `given`: the name of a layout, or a mapping in YAML. Raises ConfigError."""
    _, value = parse_yaml(given, OPTION)
    if not isinstance(value, dict):
        value = {"layout": given}
    try:
        return ConversationsConfig.model_validate(value)
    except ValidationError as error:
        said = [f"{OPTION}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ConfigError("\n".join(said)) from error
