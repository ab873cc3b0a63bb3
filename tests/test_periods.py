"""Periods by name are days of the calendar: whole weeks from Monday, whole months."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.periods import PERIOD_NAMES, PERIOD_WORDS, PeriodName, days_of_period

CASES: list[tuple[PeriodName, str, str, str | None]] = [
    ("today", "2024-02-29", "2024-02-29", None),
    ("yesterday", "2024-03-01", "2024-02-29", "2024-03-01"),
    ("this-week", "2024-01-01", "2024-01-01", None),
    ("this-week", "2024-01-07", "2024-01-01", None),
    ("last-week", "2024-01-08", "2024-01-01", "2024-01-08"),
    ("last-week", "2024-01-14", "2024-01-01", "2024-01-08"),
    ("last-7-days", "2024-01-01", "2023-12-25", "2024-01-01"),
    ("this-month", "2024-01-01", "2024-01-01", None),
    ("this-month", "2024-01-31", "2024-01-01", None),
    ("last-month", "2024-01-31", "2023-12-01", "2024-01-01"),
    ("last-month", "2024-03-31", "2024-02-01", "2024-03-01"),
]


@pytest.mark.parametrize(("name", "today", "first", "end"), CASES)
def test_a_period_is_these_days(name: PeriodName, today: str, first: str, end: str | None) -> None:
    ended = None if end is None else date.fromisoformat(end)
    found = days_of_period(name, date.fromisoformat(today))
    assert found == (date.fromisoformat(first), ended)


@given(today=st.dates(date(1971, 1, 1)), name=st.sampled_from(PERIOD_NAMES))
def test_only_what_goes_on_holds_today_and_what_is_over_ends_before(
    today: date, name: PeriodName
) -> None:
    first, end = days_of_period(name, today)
    assert (end is None) == (name == "today" or name.startswith("this-"))
    assert first < (end or today + timedelta(days=1)) <= today + timedelta(days=1)
    if end is not None:
        assert end <= today


def test_each_has_words_for_a_person() -> None:
    assert set(PERIOD_WORDS) == {name for name, *_ in CASES} == set(PERIOD_NAMES)
