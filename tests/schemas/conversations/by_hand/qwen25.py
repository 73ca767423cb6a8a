"""Qwen 2.5: a default system message, tool calls in tags, the results of tools in one turn of the user."""

import json
from typing import Any

from tests.schemas.conversations.sheet import RefusedByFamily, Sheet

DEFAULT = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TOOLS_BEFORE = "# Tools\n\nThe functions that you may call:\n<tools>\n"
TOOLS_AFTER = (
    "\n</tools>\n\nCall each by a JSON object within <tool_call></tool_call> tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def tool_list(tools: list[dict[str, Any]]) -> str:
    return TOOLS_BEFORE + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools) + TOOLS_AFTER


def write(record: dict[str, Any]) -> Sheet:
    messages, sheet = record["messages"], Sheet()
    sheet.write("<|im_start|>system\n")
    if messages[0]["role"] == "system":
        sheet.show(0, "content", messages[0]["content"])
    else:
        sheet.write(DEFAULT)
    if record.get("tools"):
        sheet.write("\n\n" + tool_list(record["tools"]))
    sheet.write("<|im_end|>\n")
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            write_answer(sheet, number, message)
        elif message["role"] == "tool":
            write_result(sheet, number, messages)
        elif message["role"] == "user" or (message["role"] == "system" and number > 0):
            sheet.write("<|im_start|>" + message["role"] + "\n")
            sheet.show(number, "content", message["content"])
            sheet.write("<|im_end|>\n")
    return sheet


def write_answer(sheet: Sheet, number: int, message: dict[str, Any]) -> None:
    calls, content = message.get("tool_calls"), message["content"]
    if not calls and content is None:
        raise RefusedByFamily("null")
    sheet.write("<|im_start|>assistant\n")
    sheet.begin(number)
    sheet.show_whole(number, message, content or "")
    if calls:
        each = [call_text(call["function"]) for call in calls]
        sheet.show(number, "tool_calls", ("\n" if content else "") + "\n".join(each))
    sheet.end(number, "<|im_end|>")
    sheet.write("\n")


def call_text(function: dict[str, Any]) -> str:
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {arguments}}}\n</tool_call>'


def write_result(sheet: Sheet, number: int, messages: list[dict[str, Any]]) -> None:
    """Results in a row share one turn."""
    if messages[number - 1]["role"] != "tool":
        sheet.write("<|im_start|>user")
    sheet.write("\n<tool_response>\n")
    sheet.show(number, "content", messages[number]["content"])
    sheet.write("\n</tool_response>")
    if number + 1 == len(messages) or messages[number + 1]["role"] != "tool":
        sheet.write("<|im_end|>\n")
