"""The section `corpus.conversations`: what is read of it, and what is refused."""

import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.conversations import MOST_SYSTEM, ConversationsConfig


def test_what_is_left_out() -> None:
    assert ConversationsConfig().model_dump() == {
        "layout": "messages",
        "field": None,
        "tools": None,
        "system": None,
        "targets": "all",
        "reasoning": True,
        "tool_calls": True,
        "date": None,
        "refused": "error",
    }


@pytest.mark.parametrize("date", ["2026-11-26", datetime.date(2026, 11, 26)])
def test_a_date_is_one_in_quotes_or_as_yaml_reads_it(date: object) -> None:
    config = ConversationsConfig.model_validate({"date": date})
    assert (config.date, config.today) == ("2026-11-26", datetime.date(2026, 11, 26))


@pytest.mark.parametrize("date", ["26.11.2026", "soon", 20261126, datetime.datetime(2026, 11, 26, 12, 0)])
def test_what_is_no_day_is_refused(date: object) -> None:
    with pytest.raises(ValidationError, match="date"):
        ConversationsConfig.model_validate({"date": date})


def test_without_a_date_there_is_no_today() -> None:
    assert ConversationsConfig().today is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"date": "26.11.2026"}, "Invalid isoformat string: '26.11.2026'"),
        ({"date": "2026-02-30"}, "day is out of range for month"),
        ({"date": "20261126"}, "write it as YYYY-MM-DD"),
        ({"date": "2026-W48-4"}, "write it as YYYY-MM-DD"),
        ({"targets": "first"}, "Input should be 'all' or 'last'"),
        ({"refused": "drop"}, "Input should be 'error' or 'skip'"),
        ({"reasoning": 1}, "Input should be a valid boolean"),
        ({"system": "x" * (MOST_SYSTEM + 1)}, "String should have at most 1000000 characters"),
        ({"masks": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ConversationsConfig.model_validate(given)
    assert said in str(caught.value)
