"""Records older than the usage that is loaded, or of no day at all: the calendar is of usage."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from pipeline.apart import UNDATED
from pipeline.export.export import export
from pipeline.lake.store import Lake
from tests.export.exported import rows
from tests.lake.test_snapshot import load, records

FIRST = date(2024, 3, 4)
DAYS = [FIRST, FIRST + timedelta(days=1)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two days of usage, a conversation on one of them, one of ten years before, one of no day."""
    lake = Lake(tmp_path / "lake")
    load(lake, DAYS[0], ("usage_1m", "usage_1h", "usage_1d", "conversations"))
    load(lake, DAYS[1], ("usage_1m", "usage_1h", "usage_1d"))
    records(lake, date(2014, 3, 4))
    records(lake, UNDATED)
    return lake


def test_the_calendar_is_that_of_usage(lake: Lake, tmp_path: Path) -> None:
    exported = export(lake, tmp_path / "out", ["dim_date", "conversations"])
    assert exported.days == DAYS
    assert [row["date"] for row in rows(tmp_path / "out", "dim_date")] == DAYS
    assert [row["date"] for row in rows(tmp_path / "out", "conversations")] == [
        date(2014, 3, 4),
        DAYS[0],
    ]


def test_what_is_of_no_day_is_said_to_be_left_out(lake: Lake, tmp_path: Path) -> None:
    exported = export(lake, tmp_path / "out", ["conversations"], by_day=True)
    [note] = exported.notes
    assert note.startswith("1 row of conversations is of no day, since created_at is no possible")
    assert not list((tmp_path / "out").rglob("*1970*"))
    assert export(lake, tmp_path / "usage").notes == []


def test_days_that_are_asked_for_are_the_calendar(lake: Lake, tmp_path: Path) -> None:
    first = date(2014, 3, 3)
    exported = export(
        lake, tmp_path / "out", ["conversations", "dim_date"], first=first, last=DAYS[0]
    )
    assert (exported.days[0], exported.days[-1]) == (first, DAYS[0])
