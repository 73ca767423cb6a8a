"""DeepSeek R1: system messages first, only the last answer keeps its reasoning, calls are fenced as JSON."""

import json
from typing import Any

from tests.schemas.conversations.sheet import Sheet, content_parts


def write(record: dict[str, Any]) -> Sheet:
    messages = record["messages"]
    sheet = Sheet(text="<｜begin▁of▁sentence｜>")
    write_system(sheet, messages)
    for number, message in enumerate(messages):
        after_tool = number > 0 and messages[number - 1]["role"] == "tool"
        if message["role"] in ("user", "assistant") and after_tool:
            sheet.write("<｜tool▁outputs▁end｜>")
        if message["role"] == "user":
            sheet.write("<｜User｜>")
            sheet.show(number, "content", message["content"])
        if message["role"] == "assistant":
            write_answer(sheet, number, message, after_tool, number + 1 == len(messages))
        if message["role"] == "tool":
            sheet.write("\n" if after_tool else "<｜tool▁outputs▁begin｜>")
            sheet.write("<｜tool▁output▁begin｜>")
            sheet.show(number, "content", message["content"])
            sheet.write("<｜tool▁output▁end｜>")
    if messages[-1]["role"] == "tool":
        sheet.write("<｜tool▁outputs▁end｜>")
    return sheet


def write_system(sheet: Sheet, messages: list[dict[str, Any]]) -> None:
    systems = [(number, message) for number, message in enumerate(messages) if message["role"] == "system"]
    for place, (number, message) in enumerate(systems):
        sheet.write("\n\n" if place else "")
        sheet.show(number, "content", message["content"])


def write_answer(sheet: Sheet, number: int, message: dict[str, Any], after_tool: bool, last: bool) -> None:
    if not after_tool:
        sheet.write("<｜Assistant｜>")
    sheet.begin(number)
    content = message["content"] or ""
    if "</think>" in content and not last:
        kept = content.split("</think>")[-1]
        rest = content_parts(message)[3].split("</think>")[-1]  # without the line ends after a block
        sheet.write(kept.removesuffix(rest))
        sheet.show(number, "content", rest)
    else:
        sheet.show_whole(number, message, content, "" if after_tool else "<think>\n")
    if message.get("tool_calls"):
        each = "\n".join(call_text(call) for call in message["tool_calls"])
        sheet.show(number, "tool_calls", "<｜tool▁calls▁begin｜>" + each + "<｜tool▁calls▁end｜>")
    sheet.end(number, "<｜end▁of▁sentence｜>")


def call_text(call: dict[str, Any]) -> str:
    function = call["function"]
    given = function["arguments"]
    arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    head = f"<｜tool▁call▁begin｜>{call.get('type', 'function')}<｜tool▁sep｜>{function['name']}"
    return f"{head}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
