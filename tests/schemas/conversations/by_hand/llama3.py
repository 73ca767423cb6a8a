"""Llama 3.1: a system header with dates, tools in the first question, one call per message, results as JSON."""

import json
from typing import Any

from tests.schemas.conversations.sheet import RefusedByFamily, Sheet

TOOLS = (
    "Given the following functions, answer with JSON for the one that best answers the prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of arguments}. Do not use variables.\n\n'
)


def header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def write(record: dict[str, Any]) -> Sheet:
    messages, tools = list(enumerate(record["messages"])), record.get("tools")
    sheet = Sheet(text="<|begin_of_text|>" + header("system"))
    sheet.write("Environment: ipython\n" if tools else "")
    sheet.write("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n")
    if messages[0][1]["role"] == "system":
        number, message = messages.pop(0)
        sheet.show(number, "content", message["content"].strip())
    sheet.write("<|eot_id|>")
    if tools:
        number, message = messages.pop(0)
        sheet.write(
            header("user") + TOOLS + "".join(json.dumps(tool, indent=4, ensure_ascii=False) + "\n\n" for tool in tools)
        )
        sheet.show(number, "content", message["content"].strip())
        sheet.write("<|eot_id|>")
    for number, message in messages:
        write_message(sheet, number, message)
    return sheet


def write_message(sheet: Sheet, number: int, message: dict[str, Any]) -> None:
    if message.get("tool_calls"):
        write_call(sheet, number, message["tool_calls"])
    elif message["role"] == "tool":
        sheet.write(header("ipython"))
        sheet.rewrite(number, "content", json.dumps(message["content"], ensure_ascii=False))
        sheet.write("<|eot_id|>")
    else:
        sheet.write(header(message["role"]))
        sheet.begin(number)
        sheet.show_whole(number, message, (message["content"] or "").strip())
        if message["role"] == "assistant":
            sheet.end(number, "<|eot_id|>")
        else:
            sheet.write("<|eot_id|>")


def write_call(sheet: Sheet, number: int, calls: list[dict[str, Any]]) -> None:
    if len(calls) != 1:
        raise RefusedByFamily("calls")
    function = calls[0]["function"]
    sheet.write(header("assistant"))
    sheet.begin(number)
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    sheet.show(number, "tool_calls", '{"name": "' + function["name"] + '", "parameters": ' + arguments + "}")
    sheet.end(number, "<|eot_id|>")
