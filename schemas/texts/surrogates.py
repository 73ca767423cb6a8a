"""Half a character where a text should be: JSON can spell one, and no tokenizer and no file can take it."""


def describe_surrogate(text: str) -> str | None:
    """Returns what is wrong with a text that holds an unpaired surrogate, and where; None for a sound one."""
    if text.isascii():  # free to ask, where encoding is not
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"an unpaired surrogate, \\u{ord(text[error.start]):04x}, at character {error.start}: "
            "that is half of a character, and no text; repair the record"
        )
    return None
