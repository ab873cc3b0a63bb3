"""From served pages to published days: every count is exact, at every width."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.lake.schemas import COVERED, MEASURES, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import WIDTHS, Width
from tests.lake.served import (
    DAY,
    MIDNIGHT,
    Bucket,
    Page,
    Result,
    counted,
    publish,
    rows_of,
    temporary,
    usage_rows,
)

Connection = duckdb.DuckDBPyConnection
LARGEST = 2**63 - 1

ids = st.none() | st.sampled_from(["", "a", "a\0", "A", "é", "e\u0301", "'"]) | st.text(max_size=3)
counts = st.none() | st.integers(0, 3) | st.integers(0, 2**53)
results = st.builds(
    Result, ids, ids, st.tuples(counts, counts, counts), st.none() | st.sampled_from(['{"x":1}'])
)
edges = st.sampled_from([0, 1, 59, 60, 61, 719, 720, 1_379, 1_380, 1_439])
buckets = st.builds(Bucket, edges | st.integers(0, 1_439), st.lists(results, max_size=4).map(tuple))
pages = st.lists(st.lists(buckets, max_size=8), max_size=8)


@settings(max_examples=25)
@given(served=pages)
@example(served=[])
@example(served=[[]])
@example(served=[[Bucket(0, (Result(),))], [Bucket(0)]])
@example(
    served=[[Bucket(0, (Result(), Result(None), Result(None, None), Result(api_key_id=None)))]]
)
def test_whatever_is_served_counts_as_one_would_count_by_hand(
    con: Connection, served: list[Page]
) -> None:
    with temporary() as folder:
        lake = Lake(Path(folder))
        published = publish(con, lake, served)
        for width in WIDTHS:
            truth = counted(served, width)
            assert usage_rows(lake, width) == truth
            assert published.rows[f"usage_{width}"] == len(truth)


def result(counts: tuple[int | None, int | None, int | None], user: str | None = "ada") -> Result:
    return Result(user, "key", counts)


CASES: dict[str, tuple[list[Page], Width, list[tuple[object, ...]]]] = {
    "a bucket served twice counts once": (
        [[Bucket(0, (result((1, 2, 3)),))], [Bucket(0, (result((1, 2, 3)),))]],
        "1d",
        [(0, "ada", 1, 2, 3)],
    ),
    "the later serving wins when it says less": (
        [[Bucket(0, (result((9, 9, 9)),))], [Bucket(0, (result((1, 2, 3)),))]],
        "1d",
        [(0, "ada", 1, 2, 3)],
    ),
    "the later serving wins whole: who is no longer in it is gone": (
        [
            [Bucket(0, (result((1, 1, 1)), result((2, 2, 2), "bob")))],
            [Bucket(0, (result((5, 5, 5), "bob"),))],
        ],
        "1m",
        [(0, "bob", 5, 5, 5)],
    ),
    "the later serving wins when it is empty": (
        [[Bucket(0, (result((1, 1, 1)),)), Bucket(1, (result((1, 1, 1)),))], [Bucket(0)]],
        "1m",
        [(60, "ada", 1, 1, 1)],
    ),
    "the later of two servings on one page wins": (
        [[Bucket(0, (result((1, 1, 1)),)), Bucket(0, (result((2, 2, 2)),))]],
        "1m",
        [(0, "ada", 2, 2, 2)],
    ),
    "an earlier serving that was empty takes nothing away": (
        [[Bucket(0)], [Bucket(0, (result((1, 1, 1)),))]],
        "1m",
        [(0, "ada", 1, 1, 1)],
    ),
    "several rows for one user and key are summed": (
        [[Bucket(0, (result((1, 2, 3)), result((10, 20, 30))))]],
        "1m",
        [(0, "ada", 11, 22, 33)],
    ),
    "a measure that nobody reports stays unknown": (
        [[Bucket(0, (result((None, 0, 1)), result((None, None, None))))]],
        "1d",
        [(0, "ada", None, 0, 1)],
    ),
    "a measure that one of two rows reports is known": (
        [[Bucket(0, (result((None, None, 1)),)), Bucket(1, (result((None, 4, None)),))]],
        "1h",
        [(0, "ada", None, 4, 1)],
    ),
    "the last minute of an hour is that hour's, the next is the next one's": (
        [[Bucket(59, (result((1, 0, 0)),)), Bucket(60, (result((0, 1, 0)),))]],
        "1h",
        [(0, "ada", 1, 0, 0), (3_600, "ada", 0, 1, 0)],
    ),
    "the last minute of a day is that day's": (
        [[Bucket(1_439, (result((1, 0, 0)),)), Bucket(0, (result((0, 1, 0)),))]],
        "1d",
        [(0, "ada", 1, 1, 0)],
    ),
    "the null user is a group beside the empty one, and comes first": (
        [[Bucket(0, (result((1, 1, 1), ""), result((2, 2, 2), None), result((3, 3, 3), None)))]],
        "1h",
        [(0, None, 5, 5, 5), (0, "", 1, 1, 1)],
    ),
    "users are told apart by every byte and sorted by them": (
        [
            [Bucket(0, (result((1, 0, 0), user),)) for user in ("é",)]
            + [Bucket(1, tuple(result((1, 0, 0), user) for user in ("e\u0301", "a/b,'\"", "a\0")))]
        ],
        "1d",
        [(0, user, 1, 0, 0) for user in ("a\0", "a/b,'\"", "e\u0301", "é")],
    ),
    "the largest count that the contract allows is exact": (
        [[Bucket(0, (result((LARGEST, LARGEST - 1, 0)),)), Bucket(1, (result((0, 1, 0)),))]],
        "1d",
        [(0, "ada", LARGEST, LARGEST, 0)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_day_says(con: Connection, lake: Lake, case: str) -> None:
    served, width, expected = CASES[case]
    publish(con, lake, served)
    assert [
        (int(str(row["start_time"])) - MIDNIGHT, row["user_id"], *(row[name] for name in MEASURES))
        for row in usage_rows(lake, width)
    ] == expected
    assert usage_rows(lake, width) == counted(served, width)


@pytest.mark.parametrize(
    "day",
    [
        date(1970, 1, 1),
        date(1999, 12, 31),
        date(2024, 2, 29),
        date(2024, 3, 31),
        date(9999, 12, 30),
    ],
    ids=str,
)
def test_days_have_24_hours_in_utc_in_any_year(con: Connection, lake: Lake, day: date) -> None:
    served = [[Bucket(minute, (Result(),), day) for minute in range(0, 1_440, 15)]]
    publish(con, lake, served, day=day)
    for width, rows in (("1m", 96), ("1h", 24), ("1d", 1)):
        found = rows_of(lake.path(f"usage_{width}", day))
        assert len(found) == rows
        assert found == counted(served, WIDTHS[WIDTHS.index(width)])


def test_raw_usage_is_what_was_served_last_row_by_row(con: Connection, lake: Lake) -> None:
    served = [
        [Bucket(1, (Result("bob", None, (1, None, 3), '{"org_id":"x"}'),))],
        [Bucket(0, (Result("zoe"), Result("ada"), Result("ada"))), Bucket(2, (Result("ivy"),))],
        [Bucket(2)],
    ]
    publish(con, lake, served, fetched_at=MIDNIGHT + 7)
    found = rows_of(lake.path("raw_usage", DAY))
    assert [(row["start_time"], row["user_id"], row["extra"]) for row in found] == [
        (MIDNIGHT, "ada", None),
        (MIDNIGHT, "ada", None),
        (MIDNIGHT, "zoe", None),
        (MIDNIGHT + 60, "bob", '{"org_id":"x"}'),
    ]
    assert [found[3][name] for name in MEASURES] == [1, None, 3]
    assert {row["fetched_at"] for row in found} == {MIDNIGHT + 7}


def test_polars_reads_the_types_of_the_contract(con: Connection, lake: Lake) -> None:
    publish(con, lake, [[Bucket(0, (Result(),))]])
    for name in USAGE_DATASETS:
        schema = pl.read_parquet_schema(lake.path(name, DAY))
        for column, kind in schema.items():
            if column in {"start_time", "end_time", "fetched_at"}:
                assert kind == pl.Datetime("us", "UTC")
            else:
                assert kind == (pl.Int64 if column.startswith("num_") else pl.String)


def test_a_day_without_usage_is_a_file_without_rows_at_every_width(
    con: Connection, lake: Lake
) -> None:
    published = publish(con, lake, [[Bucket(0), Bucket(1)]])
    assert published.rows == {
        **dict.fromkeys(USAGE_DATASETS, 0),
        "coverage": 24 * len(COVERED),
        "revisions": 0,
    }
    assert published.changed == tuple(USAGE_DATASETS)
    for name in USAGE_DATASETS:
        assert rows_of(lake.path(name, DAY)) == []
        assert lake.days(name) == [DAY]


def test_days_do_not_leak_into_each_other_over_one_connection(con: Connection, lake: Lake) -> None:
    days = [DAY + timedelta(days=number) for number in range(4)]
    served: list[list[Page]] = [[[Bucket(0, (Result(),), days[0])]], [], [], []]
    served[2] = [[Bucket(5, (Result("bob"),), days[2])]]
    for day, of_day in zip(days, served, strict=True):
        publish(con, lake, of_day, day=day)
    for day, of_day in zip(days, served, strict=True):
        assert usage_rows(lake, "1m", day) == counted(of_day, "1m")
