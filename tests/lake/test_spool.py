"""Pages of a walk on disk: every serving is numbered, also of a bucket that holds nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.schemas import RAW_USAGE
from pipeline.lake.spool import SERVED_ROWS, SERVINGS, Spool
from tests.lake.served import MIDNIGHT, Bucket, Page, Result, served_rows, spool

ONE, TWO = (Result(),), (Result("ada"), Result("bob"))


def servings(taken: Spool) -> list[tuple[int, int]]:
    """Minute of the day and number of each serving."""
    return [
        (int(row["start_time"].timestamp() - MIDNIGHT) // 60, row["serving"])
        for row in taken.servings().to_pylist()
    ]


@pytest.mark.parametrize(
    ("pages", "numbered", "rows", "parts"),
    [
        ([], [], 0, 0),
        ([[]], [], 0, 0),
        ([[Bucket(0)]], [(0, 0)], 0, 0),
        ([[Bucket(0, ONE), Bucket(1)]], [(0, 0), (1, 1)], 1, 1),
        ([[Bucket(0, ONE)], [Bucket(1, TWO)]], [(0, 0), (1, 1)], 3, 2),
        ([[Bucket(5, TWO)], [], [Bucket(5)]], [(5, 0), (5, 1)], 2, 1),
        ([[Bucket(5, ONE), Bucket(5, TWO)]], [(5, 0), (5, 1)], 3, 1),
    ],
)
def test_every_serving_is_kept_with_a_number_of_its_own(
    tmp_path: Path,
    pages: list[Page],
    numbered: list[tuple[int, int]],
    rows: int,
    parts: int,
) -> None:
    taken = spool(tmp_path, pages)
    assert servings(taken) == numbered
    assert taken.servings().schema == SERVINGS
    assert (taken.buckets, taken.rows, len(taken.parts)) == (len(numbered), rows, parts)
    assert sorted(tmp_path.iterdir()) == taken.parts


def test_parts_hold_the_rows_as_they_came(tmp_path: Path) -> None:
    odd = (Result(None, "", (None, 0, 2**63 - 1), '{"a":1}'), Result("\0", "漢 ' \" / ,"))
    pages = [[Bucket(1, odd)], [Bucket(0, ONE)]]
    taken = spool(tmp_path, pages)
    assert [pa.ipc.open_file(part).read_all() for part in taken.parts] == [
        served_rows(pages[0], 0, MIDNIGHT),
        served_rows(pages[1], 1, MIDNIGHT),
    ]


def test_more_parts_than_digits_of_a_day_stay_in_order(tmp_path: Path) -> None:
    taken = spool(tmp_path, [[Bucket(minute, ONE)] for minute in range(120)])
    assert taken.parts == sorted(taken.parts)
    assert [minute for minute, _ in servings(taken)] == list(range(120))


def test_rows_as_served_are_those_of_raw_usage_and_the_number_of_their_serving() -> None:
    assert SERVED_ROWS.names == [*RAW_USAGE.schema.names, "serving"]
    assert [SERVED_ROWS.field(name) for name in RAW_USAGE.schema.names] == list(RAW_USAGE.schema)
