"""A chat template on one line: how it begins, its hash, and what it is given."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from schemas.models.chat_template import PLAIN_TEMPLATE

SHOWN = 40  # characters of a template
DIGITS = 12  # of its SHA-256


def describe_template(source: str, arguments: Mapping[str, Any]) -> str:
    """E.g. `{% for message in messages %}… (SHA-256 0123456789ab), arguments {"enable_thinking": false}`."""
    if source == PLAIN_TEMPLATE:
        return "plain: contents without a template's words"
    line = " ".join(source.split())
    begun = line if len(line) <= SHOWN else line[:SHOWN].rstrip() + "…"
    digest = hashlib.sha256(source.encode()).hexdigest()[:DIGITS]
    given = f", arguments {json.dumps(dict(arguments), ensure_ascii=False, sort_keys=True)}" if arguments else ""
    return f"{begun} (SHA-256 {digest}){given}"
