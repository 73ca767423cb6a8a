"""What cache.json says of conversations."""

from datetime import date

from schemas.cache.conversations import ConversationsRecord

RECORD = ConversationsRecord(
    template="{{ x }}",
    arguments={"x": [1, {"y": None}]},
    special_tokens={"eos_token": "</s>"},
    layout="messages",
    targets="all",
    reasoning=True,
    tool_calls=False,
)


def test_it_is_read_as_it_is_written() -> None:
    dated = RECORD.model_copy(update={"date": "2026-11-26", "system": "s", "tools": "t", "field": "f"})
    for record in (RECORD, dated):
        assert ConversationsRecord.model_validate_json(record.model_dump_json()) == record


def test_today_is_the_date_of_the_config() -> None:
    assert RECORD.today is None
    assert RECORD.model_copy(update={"date": "2026-11-26"}).today == date(2026, 11, 26)
