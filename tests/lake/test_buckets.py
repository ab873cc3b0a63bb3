"""Buckets of any width in any zone hold exactly what a count in plain Python puts there.

The count labels every minute by what `zoneinfo` says the clock shows, and adds up by label: it
knows nothing of edges.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest

from pipeline.lake import engine
from pipeline.lake.buckets import LONGEST, buckets, edges, finest
from pipeline.lake.schemas import DATASETS
from pipeline.timeline import ANY_WIDTHS, AnyWidth, Window, day_window

ZONES = [
    *("UTC", "America/New_York", "Europe/Berlin", "Asia/Karachi", "Asia/Kolkata"),
    *("Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Chatham"),
    *("America/Havana", "Africa/Cairo", "Africa/Casablanca"),
]
"""Half-hour and quarter-hour zones; days that begin at one; midnights that come twice; a clock that
is moved by half an hour; one that is moved four times a year."""
TWO_YEARS = Window(day_window(date(2024, 1, 1)).start, day_window(date(2025, 12, 31)).end)
SUB_DAY: dict[AnyWidth, int] = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "6h": 21_600}

Label = tuple[object, ...]


@cache
def shown(moment: int, known: ZoneInfo) -> datetime:
    """What the clock shows: asked for once for all widths."""
    return datetime.fromtimestamp(moment, known)


def label(moment: int, width: AnyWidth, known: ZoneInfo) -> Label:
    """What bucket the clock says it is."""
    local = shown(moment, known)
    day = local.date()
    if width == "1mo":
        return day.year, day.month
    if width == "1w":
        return tuple(day.isocalendar()[:2])
    if width == "1d":
        return (day,)
    of_day = (local.hour * 3_600 + local.minute * 60 + local.second) // SUB_DAY[width]
    return (day, of_day) if width == "6h" else (day, of_day, local.utcoffset())


@cache
def minutes() -> list[tuple[int, int]]:
    """Minutes with usage: 4,000 anywhere, and every half hour of days on which a clock is moved."""
    drawn = random.Random(7)
    found = {
        drawn.randrange(TWO_YEARS.start, TWO_YEARS.end, 60): drawn.randint(1, 9)
        for _ in range(4_000)
    }
    for name in ZONES:
        known = ZoneInfo(name)
        for moment in range(TWO_YEARS.start, TWO_YEARS.end - 86_400, 86_400):
            ahead = [
                datetime.fromtimestamp(at, known).utcoffset() for at in (moment, moment + 86_400)
            ]
            if ahead[0] != ahead[1]:
                for at in range(moment, moment + 86_400, 1_800):
                    found[at] = drawn.randint(1, 9)
    return sorted(found.items())


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the minutes as usage."""
    rows = [
        {
            "start_time": at * 1_000_000,
            "end_time": (at + 60) * 1_000_000,
            "user_id": None,
            "num_operations": operations,
        }
        for at, operations in minutes()
    ]
    with closing(engine.connect()) as opened:
        table = pa.Table.from_pylist(rows, schema=DATASETS["usage_1m"].schema)
        opened.register("usage_rows", table)
        yield opened


IN_THE_USUAL_RUN = ("UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in IN_THE_USUAL_RUN else pytest.mark.slow)
        for name in ZONES
    ],
)
def test_two_years_equal_a_count_in_plain_python(con: duckdb.DuckDBPyConnection, name: str) -> None:
    known = ZoneInfo(name)
    for width in ANY_WIDTHS[1:]:
        expected = Counter[Label]()
        for at, operations in minutes():
            expected[label(at, width, known)] += operations
        con.register("edges", edges(buckets(con, TWO_YEARS, width, name)))
        counted = con.execute(
            "SELECT CAST(epoch(start_time) AS BIGINT), CAST(epoch(end_time) AS BIGINT), "
            f"num_operations FROM ({engine.sql('usage_by')})"
        ).fetchall()
        assert {label(start, width, known): n for start, _, n in counted} == expected
        assert len(counted) == len(expected)
        for start, end, _ in counted:
            assert label(start, width, known) == label(end - 1, width, known)
            assert label(end, width, known) != label(start, width, known)


@pytest.mark.parametrize("width", ANY_WIDTHS)
@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("America/New_York", "2024-03-10"),
        ("America/New_York", "2024-11-03"),
        ("America/Havana", "2024-03-10"),
        ("America/Havana", "2024-11-03"),
        ("Australia/Lord_Howe", "2024-04-07"),
        ("Australia/Lord_Howe", "2024-10-06"),
        ("Africa/Cairo", "2024-04-26"),
        ("Atlantic/Azores", "2025-10-26"),
        ("America/Scoresbysund", "2024-03-31"),
        ("Pacific/Apia", "2011-12-30"),
        ("Asia/Kathmandu", "2024-02-29"),
    ],
)
def test_edges_are_where_the_clock_shows_another_bucket(
    name: str, day: str, width: AnyWidth
) -> None:
    around = day_window(date.fromisoformat(day))
    window = Window(around.start - 86_400, around.end + 86_400)
    known = ZoneInfo(name)
    with closing(engine.connect()) as con:
        found = buckets(con, window, width, name)
    assert found[0].start <= window.start < found[0].end
    assert found[-1].start < window.end <= found[-1].end
    for one, other in pairwise(found):
        assert one.end == other.start
    for bucket in found:
        assert 0 < bucket.end - bucket.start <= LONGEST[width]
        labels = {label(at, width, known) for at in range(bucket.start, bucket.end, 60)}
        assert len(labels) == 1
        assert label(bucket.start - 1, width, known) not in labels
        assert label(bucket.end, width, known) not in labels


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("America/New_York", "2024-03-10", 23),
        ("America/New_York", "2024-11-03", 25),
        ("Australia/Lord_Howe", "2024-04-07", 24.5),
        ("Australia/Lord_Howe", "2024-10-06", 23.5),
        ("Asia/Karachi", "2024-11-03", 24),
    ],
)
def test_a_local_day_is_as_long_as_it_is(name: str, day: str, hours: float) -> None:
    noon = datetime.combine(date.fromisoformat(day), datetime.min.time(), ZoneInfo(name))
    at = int((noon + timedelta(hours=12)).timestamp())
    with closing(engine.connect()) as con:
        [bucket] = buckets(con, Window(at, at + 1), "1d", name)
    assert bucket.end - bucket.start == hours * 3_600


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("UTC", "1w", "1d"),
        ("Asia/Karachi", "1d", "1h"),
        ("Asia/Kolkata", "1mo", "1m"),
        ("Asia/Kolkata", "15m", "1m"),
        ("UTC", "6h", "1h"),
        ("UTC", "5m", "1m"),
    ],
)
def test_buckets_are_counted_from_the_widest_table_that_they_do_not_cut(
    name: str, width: AnyWidth, expected: str
) -> None:
    start = day_window(date(2024, 5, 1)).start
    with closing(engine.connect()) as con:
        assert finest(buckets(con, Window(start, start + 86_400), width, name)) == expected
