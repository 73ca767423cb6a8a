"""What the command line says of held-out conversations."""

import pytest

from jobs.held_out import parse_conversations
from schemas.configs.conversations import ConversationsConfig
from schemas.errors import ConfigError


def test_a_layout_or_all_the_options_are_given() -> None:
    assert parse_conversations("sharegpt") == ConversationsConfig(layout="sharegpt")
    given = parse_conversations("{field: chat, date: 2026-11-26, refused: skip}")
    assert given == ConversationsConfig(field="chat", date="2026-11-26", refused="skip")


def test_every_fault_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--conversations: targets: .*\n--conversations: date: "):
        parse_conversations("{targets: first, date: soon}")
