"""What `stillroom evaluate --conversations` names: a layout, or the options of a corpus of conversations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.configs.conversations import ConversationsConfig
from schemas.configs.parse import parse_yaml
from schemas.errors import ConfigError
from trainer.evaluation.held_out_conversations import read_conversations

OPTION = "--conversations"


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
