"""Gemma 3: the system message opens the first turn of the user, contents are trimmed, roles alternate, no tools."""

from typing import Any

from tests.schemas.conversations.sheet import RefusedByFamily, Sheet


def write(record: dict[str, Any]) -> Sheet:
    if record.get("tools"):
        raise RefusedByFamily("tools")
    messages = list(enumerate(record["messages"]))
    system = messages.pop(0)[1]["content"] if messages[0][1]["role"] == "system" else None
    sheet = Sheet(text="<bos>")
    for place, (number, message) in enumerate(messages):
        if (message["role"] == "user") != (place % 2 == 0):
            raise RefusedByFamily("roles")
        model = message["role"] == "assistant"
        sheet.write("<start_of_turn>" + ("model" if model else message["role"]) + "\n")
        if place == 0 and system is not None:
            sheet.show(0, "content", system)
            sheet.write("\n\n")
        sheet.begin(number)
        sheet.show_whole(number, message, (message["content"] or "").strip())
        if model:
            sheet.end(number, "<end_of_turn>")
        else:
            sheet.write("<end_of_turn>")
        sheet.write("\n")
    return sheet
