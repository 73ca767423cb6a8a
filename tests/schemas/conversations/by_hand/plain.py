"""Families whose messages are a header, the content as it is, and an end: no tools, no field of reasoning."""

from typing import Any

from tests.schemas.conversations.sheet import RefusedByFamily, Sheet


def messages_of(record: dict[str, Any], roles: tuple[str, ...] | None = None) -> list[tuple[int, dict[str, Any]]]:
    """The messages that such a template shows, with their numbers."""
    found = [(number, one) for number, one in enumerate(record["messages"]) if roles is None or one["role"] in roles]
    if any(message["content"] is None for _, message in found):
        raise RefusedByFamily("null")
    return found


def show(sheet: Sheet, number: int, message: dict[str, Any], end: str) -> None:
    sheet.begin(number)
    sheet.show_whole(number, message, message["content"])
    if message["role"] == "assistant":
        sheet.end(number, end)
    else:
        sheet.write(end)


def chatml(record: dict[str, Any]) -> Sheet:
    sheet = Sheet()
    for number, message in messages_of(record):
        sheet.write("<|im_start|>" + message["role"] + "\n")
        show(sheet, number, message, "<|im_end|>")
        sheet.write("\n")
    return sheet


def smollm2(record: dict[str, Any]) -> Sheet:
    sheet = Sheet()
    if record["messages"][0]["role"] != "system":
        sheet.write("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face")
        sheet.write("<|im_end|>\n")
    for number, message in messages_of(record):
        sheet.write("<|im_start|>" + message["role"] + "\n")
        show(sheet, number, message, "<|im_end|>")
        sheet.write("\n")
    return sheet


def phi3(record: dict[str, Any]) -> Sheet:
    sheet = Sheet()
    for number, message in messages_of(record, ("system", "user", "assistant")):
        sheet.write("<|" + message["role"] + "|>\n")
        show(sheet, number, message, "<|end|>")
        sheet.write("\n")
    sheet.write("<|endoftext|>")
    return sheet


def zephyr(record: dict[str, Any]) -> Sheet:
    sheet = Sheet()
    for number, message in messages_of(record, ("system", "user", "assistant")):
        sheet.write("<|" + message["role"] + "|>\n")
        show(sheet, number, message, "</s>")
        sheet.write("\n")
    return sheet
