"""Mistral 3: tools before the last question, the system message in the first, answers trimmed, roles alternate."""

import json
from typing import Any

from tests.schemas.conversations.sheet import RefusedByFamily, Sheet


def write(record: dict[str, Any]) -> Sheet:
    messages = list(enumerate(record["messages"]))
    system = messages.pop(0)[1]["content"] if messages[0][1]["role"] == "system" else None
    require_alternation([message for _, message in messages])
    last_question = [message for _, message in messages if message["role"] == "user"][-1]
    sheet = Sheet(text="<s>")
    for place, (number, message) in enumerate(messages):
        if message["role"] == "user":
            if record.get("tools") and message == last_question:  # an earlier one that says the same counts too
                sheet.write(tool_list(record["tools"]))
            sheet.write("[INST] ")
            if place == 0 and system is not None:
                sheet.show(0, "content", system)
                sheet.write("\n\n")
            sheet.show(number, "content", message["content"])
            sheet.write("[/INST]")
        elif message["role"] == "tool":
            write_result(sheet, number, message)
        else:
            write_answer(sheet, number, message)
    return sheet


def require_alternation(messages: list[dict[str, Any]]) -> None:
    counted = [message["role"] for message in messages if message["role"] != "tool" and not message.get("tool_calls")]
    if any((role == "user") != (place % 2 == 0) for place, role in enumerate(counted)):
        raise RefusedByFamily("roles")
    if not set(counted) <= {"user", "assistant"}:
        raise RefusedByFamily("roles")


def tool_list(tools: list[dict[str, Any]]) -> str:
    """Texts are quoted without escapes."""
    each = [
        ", ".join(
            f'"{key}": ' + (f'"{value}"' if isinstance(value, str) else dumped(value)) for key, value in one.items()
        )
        for one in (tool["function"] for tool in tools)
    ]
    inner = ", ".join('{"type": "function", "function": {' + one + "}}" for one in each)
    return "[AVAILABLE_TOOLS] [" + inner + "][/AVAILABLE_TOOLS]"


def dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def require_identity(identity: str | None) -> str:
    if identity is None or len(identity) != 9:
        raise RefusedByFamily("calls")
    return identity


def write_answer(sheet: Sheet, number: int, message: dict[str, Any]) -> None:
    sheet.begin(number)
    if message.get("tool_calls"):
        calls = [{**call["function"], "id": require_identity(call.get("id"))} for call in message["tool_calls"]]
        sheet.show(number, "tool_calls", "[TOOL_CALLS] " + dumped(calls))
    else:
        sheet.write(" ")
        sheet.show_whole(number, message, (message["content"] or "").strip())
    sheet.end(number, "</s>")


def write_result(sheet: Sheet, number: int, message: dict[str, Any]) -> None:
    sheet.write('[TOOL_RESULTS] {"content": ')
    sheet.show(number, "content", message["content"])
    sheet.write(', "call_id": "' + require_identity(message.get("tool_call_id")) + '"}[/TOOL_RESULTS]')
