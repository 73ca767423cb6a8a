"""Qwen 3: reasoning is shown after the last question only, and the last answer always has a block of it."""

import json
from typing import Any

from tests.schemas.conversations.by_hand.qwen25 import tool_list, write_result
from tests.schemas.conversations.sheet import Sheet, content_parts, reasoning_field


def write(record: dict[str, Any]) -> Sheet:
    messages, tools, sheet = record["messages"], record.get("tools"), Sheet()
    system = messages[0]["role"] == "system"
    if system or tools:
        sheet.write("<|im_start|>system\n")
        if system:
            sheet.show(0, "content", messages[0]["content"])
        if tools:
            sheet.write(("\n\n" if system else "") + tool_list(tools))
        sheet.write("<|im_end|>\n")
    question = last_question(messages)
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            write_answer(sheet, number, message, number > question, number + 1 == len(messages))
        elif message["role"] == "tool":
            write_result(sheet, number, messages)
        elif message["role"] == "user" or (message["role"] == "system" and number > 0):
            sheet.write("<|im_start|>" + message["role"] + "\n")
            sheet.show(number, "content", message["content"])
            sheet.write("<|im_end|>\n")
    return sheet


def last_question(messages: list[dict[str, Any]]) -> int:
    """A user's message that only holds a tool's response is not a question."""
    questions = [
        number
        for number, message in enumerate(messages)
        if message["role"] == "user"
        and not (message["content"].startswith("<tool_response>") and message["content"].endswith("</tool_response>"))
    ]
    return questions[-1] if questions else len(messages) - 1


def write_answer(sheet: Sheet, number: int, message: dict[str, Any], kept: bool, last: bool) -> None:
    sheet.write("<|im_start|>assistant\n")
    sheet.begin(number)
    if loose_tag(message):
        write_loose(sheet, number, message["content"], kept)
    else:
        write_parts(sheet, number, message, kept, last)
    if message.get("tool_calls"):
        each = [call_text(call["function"]) for call in message["tool_calls"]]
        content = content_parts(message)[3]
        sheet.show(number, "tool_calls", ("\n" if content else "") + "\n".join(each))
    sheet.end(number, "<|im_end|>")
    sheet.write("\n")


def write_parts(sheet: Sheet, number: int, message: dict[str, Any], kept: bool, last: bool) -> None:
    field = reasoning_field(message)
    _, block, _, rest = content_parts(message)
    reasoning = block if field is None else field
    if not kept or not (last or reasoning):
        sheet.show(number, "content", rest)
        return
    sheet.write("<think>\n")
    if reasoning.strip():
        sheet.show(number, "reasoning", reasoning.strip("\n"))
        sheet.close(number, "\n</think>\n\n")
    else:
        sheet.write(reasoning.strip("\n") + "\n</think>\n\n")
        sheet.begin(number)
    sheet.show(number, "content", rest.lstrip("\n"))


def loose_tag(message: dict[str, Any]) -> bool:
    """A `</think>` that does not close a leading block of reasoning: the template takes it for one that does."""
    return reasoning_field(message) is None and "</think>" in content_parts(message)[3]


def write_loose(sheet: Sheet, number: int, content: str, kept: bool) -> None:
    """Only what follows the last tag is taken for the answer, and what precedes the first for reasoning."""
    pieces = content.split("</think>")
    before, after = pieces[0].split("<think>")[-1].strip("\n"), pieces[-1].lstrip("\n")
    if kept:
        sheet.rewrite(number, "content", "<think>\n" + before + "\n</think>\n\n" + after)
    else:
        sheet.show(number, "content", after)


def call_text(function: dict[str, Any]) -> str:
    arguments = function["arguments"]
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {shown}}}\n</tool_call>'
