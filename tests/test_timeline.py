"""Times are read as they were meant, and every second lies in exactly one bucket and one day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.timeline import (
    DAY,
    SECONDS,
    WIDTHS,
    Width,
    Window,
    closed_through,
    day_of,
    day_range,
    day_window,
    floor_to,
    iso,
    parse_time,
    spans,
    trailing_days,
)

LAST = 253_402_300_799  # 9999-12-31T23:59:59Z
AROUND_1970 = st.integers(-(10**10), LAST)
SENSIBLE = st.integers(0, LAST)
EDGES = st.sampled_from(WIDTHS)
DAYS = st.dates(date(1, 1, 2), date(9999, 12, 30))


@given(seconds=AROUND_1970, width=EDGES)
def test_every_second_lies_in_the_bucket_that_begins_at_its_floor(
    seconds: int, width: Width
) -> None:
    start = floor_to(seconds, width)
    assert start <= seconds < start + SECONDS[width]
    assert start % SECONDS[width] == 0


@given(seconds=AROUND_1970)
def test_every_second_lies_in_the_window_of_its_day(seconds: int) -> None:
    window = day_window(day_of(seconds))
    assert window.start <= seconds < window.end
    assert window.end - window.start == DAY


@given(day=DAYS)
def test_a_day_is_the_day_of_its_first_and_of_its_last_second(day: date) -> None:
    window = day_window(day)
    assert day_of(window.start) == day_of(window.end - 1) == day
    assert window.days == [day]


@pytest.mark.parametrize(
    ("day", "start"),
    [
        (date(1970, 1, 1), 0),
        (date(1969, 12, 31), -86_400),
        (date(2024, 1, 1), 1_704_067_200),
        (date(2024, 2, 29), 1_709_164_800),
        (date(2024, 3, 31), 1_711_843_200),  # clocks change in Europe, not in UTC
    ],
)
def test_days_begin_at_midnight_utc(day: date, start: int) -> None:
    assert day_window(day) == Window(start, start + 86_400)


@given(start=st.integers(0, LAST - 400 * DAY), length=st.integers(0, 400 * DAY))
def test_the_days_of_a_window_are_those_it_touches(start: int, length: int) -> None:
    window = Window(start, start + length)
    touched = [
        day
        for day in window.days
        if day_window(day).start < window.end and day_window(day).end > window.start
    ]
    assert window.days == touched
    assert len(window.days) == ((start % DAY) + length + DAY - 1) // DAY * bool(length)


@given(
    start=st.integers(day_window(date(2023, 12, 20)).start, day_window(date(2024, 3, 10)).start),
    length=st.integers(0, 80 * DAY),
    days=st.lists(st.dates(date(2024, 1, 1), date(2024, 3, 1)), max_size=40, unique=True),
)
def test_the_days_of_a_window_are_there_or_lacking(
    start: int, length: int, days: list[date]
) -> None:
    window = Window(start, start + length)
    there = window.among(sorted(days))
    assert there == [day for day in window.days if day in days]
    assert window.lacks(sorted(days)) == spans(day for day in window.days if day not in days)


@given(start=SENSIBLE, length=st.integers(0, 10**8), width=EDGES)
def test_a_window_is_widened_to_the_nearest_edges(start: int, length: int, width: Width) -> None:
    window = Window(start, start + length)
    wide = window.widened(width)
    assert wide.start <= window.start <= window.end <= wide.end
    assert window.start - wide.start < SECONDS[width]
    assert wide.end - window.end < SECONDS[width]
    assert wide.start % SECONDS[width] == wide.end % SECONDS[width] == 0
    assert wide.widened(width) == wide


def test_a_window_may_be_empty_but_not_upside_down() -> None:
    assert Window(60, 60).days == []
    with pytest.raises(ValueError, match="ends before it starts: start 1970-01-01T00:01:00Z"):
        Window(60, 59)


def test_a_window_shows_its_times() -> None:
    assert str(Window(0, 86_400)) == "[1970-01-01T00:00:00Z, 1970-01-02T00:00:00Z)"


@pytest.mark.parametrize(
    ("now", "closed"), [(0.0, 0), (59.999, 0), (60.0, 60), (119.9, 60), (-0.5, -60)]
)
def test_the_minute_that_is_still_open_is_not_closed(now: float, closed: int) -> None:
    assert closed_through(now) == closed


def test_ranges_and_trailing_days_hold_both_ends() -> None:
    first, last = date(2024, 2, 28), date(2024, 3, 1)
    assert list(day_range(first, last)) == [first, date(2024, 2, 29), last]
    assert list(day_range(last, first)) == []
    assert trailing_days(last, 2) == (first, last)
    assert trailing_days(last, 0) == (last, last)


@given(days=st.lists(st.dates(date(2024, 1, 1), date(2024, 3, 1)), max_size=40))
def test_spans_hold_the_same_days_and_never_touch(days: list[date]) -> None:
    found = spans(days)
    assert [day for first, last in found for day in day_range(first, last)] == sorted(set(days))
    for (_, last), (first, _) in pairwise(found):
        assert first - last > timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-31", 1_706_659_200),
        ("2024-01-31T18:00:00Z", 1_706_724_000),
        ("2024-01-31T18:00:00", 1_706_724_000),
        ("2024-01-31 18:00", 1_706_724_000),
        ("2024-01-31T18:00:00.000Z", 1_706_724_000),
        ("2024-01-31T20:00:00+02:00", 1_706_724_000),
        ("2024-01-31T23:30:00+05:30", 1_706_724_000),
        ("2024-01-31T13:00:00-05:00", 1_706_724_000),
        ("1706724000", 1_706_724_000),
        ("+60", 60),
        ("  1706724000\n", 1_706_724_000),
        ("0", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("9999-12-31T23:59:59Z", LAST),
        (str(LAST), LAST),
    ],
)
def test_times_are_read_in_utc_unless_they_carry_an_offset(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a time"),
        ("yesterday", "is not a time"),
        ("2024-02-30", "is not a time"),
        ("2024-01-31T25:00", "is not a time"),
        ("31.01.2024", "is not a time"),
        ("1e9", "is not a time"),
        ("1706724000.5", "is not a time"),
        ("1_000", "is not a time"),
        ("٣", "is not a time"),
        ("9" * 5_000, "is not a time"),
        ("2024-01-31T18:00:00.5Z", "fraction of a second"),
        ("2024-01-31T18:00:00,25Z", "fraction of a second"),
        ("2024-01-31T18:00:00.0000001Z", "fraction of a second"),
        ("2024-01-31T18:00:00+00:00:00.5", "fraction of a second"),
        ("20240131", "write a date as 2024-01-31"),
        ("-1", "out of range"),
        ("1969-12-31T23:59:59Z", "out of range"),
        ("1970-01-01T00:00:00+01:00", "out of range"),
        ("9999-12-31T23:59:59-01:00", "out of range"),
        ("0001-01-01", "out of range"),
        ("1706724000000", "out of range"),  # milliseconds
    ],
)
def test_what_is_no_time_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_time(text)


@given(seconds=SENSIBLE)
def test_what_iso_writes_is_read_back(seconds: int) -> None:
    assert parse_time(iso(seconds)) == seconds
    assert iso(seconds) == datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@given(st.integers())
def test_iso_writes_any_number_that_a_server_may_send(seconds: int) -> None:
    assert iso(seconds)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        seconds, message = parse_time(text), repr(text)
    except ValueError as error:
        seconds, message = 0, str(error)
    assert 0 <= seconds <= LAST
    assert message.startswith(repr(text))
