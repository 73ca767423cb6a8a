"""Reasoning in a field or in a block of the content, kept and dropped."""

from tests.schemas.conversations.record import assistant, call, case, result, tool, user

REASONING = (
    case(
        "reasoning",
        "fields",
        user("What is 2 + 2?"),
        assistant("4", reasoning_content="Two and two make four."),
        user("And 3 + 3?"),
        assistant("6", reasoning_content="\nThree and three\n\nmake six.\n"),
    ),
    case(
        "reasoning",
        "blocks",
        user("What is 2 + 2?"),
        assistant("<think>\nTwo and two make four.\n</think>\n\n4"),
        user("And 3 + 3?"),
        assistant("<think>\nThree and three make six.\n</think>\n\n6"),
        user("And 4 + 4?"),
        assistant("<think>Eight.</think>8"),
    ),
    case(
        "reasoning",
        "empty blocks",
        user("Hello"),
        assistant("<think>\n\n</think>\n\nHi."),
        user("Bye"),
        assistant("<think>\n\n</think>\n\nBye."),
    ),
    case(
        "reasoning",
        "between calls",
        user("Is it late?"),
        assistant("<think>\nI need the time.\n</think>\n\n", call("get_time", {}, "call00001")),
        result("23:59", "call00001"),
        assistant("<think>\nThat is late.\n</think>\n\nYes.\n"),
        tools=[tool("get_time", "The time of day.")],
    ),
    case(
        "reasoning",
        "other fields, no answer",
        user("Think."),
        assistant("I did.", thinking="What of?"),
        user("Think again."),
        assistant("", reasoning="Again, what of?"),
    ),
)
