"""The options of a corpus of conversations."""

import datetime

import pytest
from pydantic import ValidationError

from schemas.configs.conversations import ConversationsConfig


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
