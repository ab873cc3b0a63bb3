"""UTC days as partitions, and the days that a run's tags name."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.orchestration.partitions import (
    PARTITION,
    RANGE_END,
    RANGE_START,
    daily,
    days_of,
    range_tags,
)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, []),
        ({"owner": "someone"}, []),
        ({PARTITION: "2024-02-29"}, [date(2024, 2, 29)]),
        ({RANGE_START: "2024-01-01", RANGE_END: "2024-01-01"}, [date(2024, 1, 1)]),
        (
            {RANGE_START: "2024-02-28", RANGE_END: "2024-03-01"},
            [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)],
        ),
        ({RANGE_START: "2024-02-28"}, []),
    ],
)
def test_a_run_is_about_the_days_that_its_tags_name(
    tags: dict[str, str], expected: list[date]
) -> None:
    assert days_of(tags) == expected


@given(st.dates(max_value=date(9000, 1, 1)), st.integers(0, 400))
def test_a_range_names_each_of_its_days_once(first: date, more: int) -> None:
    last = first + timedelta(days=more)
    days = days_of(range_tags(first, last))
    assert (days[0], days[-1], len(days)) == (first, last, more + 1)
    assert days == sorted(set(days))


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2024, 3, 30, 23, 59, 59, tzinfo=UTC), "2024-03-30"),
        (datetime(2024, 3, 31, 0, 0, tzinfo=UTC), "2024-03-31"),
        (datetime(2024, 3, 31, 2, 30, tzinfo=UTC), "2024-03-31"),
    ],
)
def test_the_open_day_is_a_partition_from_midnight_utc(now: datetime, last: str) -> None:
    keys = daily(date(2024, 3, 29)).get_partition_keys(current_time=now)
    assert (keys[0], keys[-1]) == ("2024-03-29", last)


def test_a_partition_is_the_24_hours_of_a_utc_day_when_clocks_change() -> None:
    window = daily(date(2024, 1, 1)).time_window_for_partition_key("2024-03-31")
    assert window.start.timestamp() == datetime(2024, 3, 31, tzinfo=UTC).timestamp()
    assert window.end.timestamp() - window.start.timestamp() == 86_400
