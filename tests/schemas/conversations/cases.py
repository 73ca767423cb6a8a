"""Fifty conversations of ten kinds."""

from tests.schemas.conversations.kinds.plain import EMPTY, MANY_TURNS, ONE_TURN, SYSTEM
from tests.schemas.conversations.kinds.reasoning import REASONING
from tests.schemas.conversations.kinds.strange import LANGUAGES, MARKUP, WHITE_SPACE
from tests.schemas.conversations.kinds.tools import PARALLEL, TOOLS

CASES = (
    *ONE_TURN,
    *MANY_TURNS,
    *SYSTEM,
    *TOOLS,
    *PARALLEL,
    *REASONING,
    *EMPTY,
    *WHITE_SPACE,
    *MARKUP,
    *LANGUAGES,
)
