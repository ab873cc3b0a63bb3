"""Records older than the usage that is loaded, or of no day at all: the calendar is of usage."""

from __future__ import annotations

from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest

from pipeline.apart import UNDATED
from pipeline.export.export import export
from pipeline.lake import engine
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.conversations.seen import (
    EVERY_DAY,
    Conversation,
    Item,
    Response,
    Sight,
    land_seen,
)
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


@pytest.mark.parametrize("by_day", [False, True])
def test_records_that_stand_apart_are_exported_under_their_own_days(
    tmp_path: Path, by_day: bool
) -> None:
    """As they were when each day of them had a file: one of the two lakes is of that kind."""
    apart, own = (Lake(tmp_path / name) for name in ("apart", "own"))
    old = [FIRST - timedelta(days=number) for number in (70, 64, 40)]
    for lake, loaded in ((apart, DAYS), (own, EVERY_DAY)):
        for day in DAYS:
            load(lake, day, ("usage_1m", "usage_1h", "usage_1d"))
        with closing(engine.connect()) as con:
            talks = [sight for day in [*old, *DAYS] for sight in talk(day)]
            land_seen(con, lake, *talks, loaded=loaded)
    assert len(apart.all_days()) == len(own.all_days()) - 1
    tables = ["conversations", "responses", "items", "item_contents"]
    files: dict[str, dict[str, bytes]] = {}
    for name, lake in (("apart", apart), ("own", own)):
        out = tmp_path / f"out of {name}"
        assert export(lake, out, tables, by_day=by_day).notes == []
        files[name] = {
            str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.parquet")
        }
    assert files["apart"] == files["own"]
    assert by_day == any(f"day={old[0]}" in name for name in files["own"])
    late = export(apart, tmp_path / "late", tables, first=old[1], last=old[1])
    assert [row["date"] for row in rows(tmp_path / "late", "items")] == [old[1]]
    assert late.days == [old[1]]


def talk(day: date) -> list[Sight]:
    at = day_window(day).start + 60
    name = f"c {day}"
    return [
        Conversation(name, created_at=at),
        Response(f"r {day}", conversation_id=name, created_at=at),
        Item(f"i {day}", conversation_id=name, response_id=f"r {day}", body="hello"),
    ]
