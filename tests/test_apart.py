"""Days of 1970 are no days of the calendar: each holds records of a month that are not loaded."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.apart import EARLIEST, UNDATED, apart, is_apart, last_of, month_of
from pipeline.timeline import in_words

DAYS = st.dates(EARLIEST, date(2049, 12, 31))


@given(day=DAYS)
def test_a_day_is_within_the_month_of_its_place(day: date) -> None:
    place = apart(day)
    assert is_apart(place)
    assert place != UNDATED
    assert month_of(place) == day.replace(day=1)
    assert month_of(place) <= day <= last_of(place)


@given(day=DAYS, other=DAYS)
def test_two_days_share_a_place_when_they_share_a_month(day: date, other: date) -> None:
    same = (day.year, day.month) == (other.year, other.month)
    assert (apart(day) == apart(other)) == same


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ([date(2024, 1, 1)], "2024-01-01"),
        ([UNDATED], "no known day"),
        ([apart(date(2023, 5, 4))], "days of 2023-05 that are not loaded"),
        (
            [UNDATED, date(2024, 1, 1), apart(date(2023, 5, 4)), apart(date(2023, 6, 4))],
            "2024-01-01, days of 2023-05, 2023-06 that are not loaded, no known day",
        ),
    ],
)
def test_places_are_named_by_what_they_hold(days: list[date], words: str) -> None:
    assert in_words(days) == words
