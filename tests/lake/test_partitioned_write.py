"""A stream of rows becomes a file per UTC day, wherever its batches are cut."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.files import covered, noted
from pipeline.lake.partitioned_write import days_in, write_days
from pipeline.lake.schemas import CONVERSATIONS
from pipeline.timeline import Window, day_window
from tests.lake.served import DAY, MIDNIGHT, rows_of

SECONDS = [MIDNIGHT, MIDNIGHT + 86_399.999999, MIDNIGHT + 86_400, MIDNIGHT + 5 * 86_400]
DAYS = [DAY, DAY + timedelta(days=1), DAY + timedelta(days=5)]


def table(seconds: list[float]) -> pa.Table:
    rows = [
        {"id": f"{place}", "created_at": round(moment * 1e6), "more": 1}
        for place, moment in enumerate(seconds)
    ]
    return pa.Table.from_pylist(
        rows, schema=CONVERSATIONS.schema.append(pa.field("more", pa.int64()))
    )


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_row_is_in_the_file_of_its_day_however_batches_are_cut(
    tmp_path: Path, size: int
) -> None:
    batches = table(SECONDS).to_batches(max_chunksize=size)
    files = write_days(CONVERSATIONS, batches, "created_at", tmp_path)
    assert list(files) == DAYS
    assert [[row["id"] for row in rows_of(path)] for path in files.values()] == [
        ["0", "1"],
        ["2"],
        ["3"],
    ]
    for day, path in files.items():
        assert covered(path).window == day_window(day)


def test_a_day_without_rows_gets_a_file_where_it_is_asked_for(tmp_path: Path) -> None:
    files = write_days(
        CONVERSATIONS,
        table([MIDNIGHT + 86_400.0]).to_batches(),
        "created_at",
        tmp_path,
        also=[DAY, DAYS[1]],
        window=lambda day: Window(day_window(day).start, day_window(day).start + 60),
        notes={DAYS[1]: {"odd": ["b", "a"], "none": []}},
    )
    assert {day: covered(path).rows for day, path in files.items()} == {DAY: 0, DAYS[1]: 1}
    assert covered(files[DAY]).window == Window(MIDNIGHT, MIDNIGHT + 60)
    assert noted(files[DAYS[1]], "odd") == ["a", "b"]
    assert noted(files[DAYS[1]], "none") == noted(files[DAY], "odd") == []


def test_no_rows_make_no_files(tmp_path: Path) -> None:
    assert write_days(CONVERSATIONS, [], "created_at", tmp_path) == {}
    assert write_days(CONVERSATIONS, table([]).to_batches(), "created_at", tmp_path) == {}


def test_days_are_told_once_and_in_order() -> None:
    moments = table([*reversed(SECONDS), 0.0]).column("created_at")
    assert days_in(moments) == [date(1970, 1, 1), *DAYS]
    assert days_in(moments.slice(0, 0)) == []


def test_a_day_ends_at_midnight_in_utc() -> None:
    late = datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC).timestamp()
    assert days_in(table([late]).column("created_at")) == [DAY]
