"""Bring what is derived from the records up to what is stored: observed buckets, reconciliation.

Belongs here: which days are derived again, and in which order. Each day's manifest says what it
owes; a process that ends before it has derived leaves that to the next run of anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import date

import duckdb

from pipeline.conversations.observe import observe_days
from pipeline.conversations.reconcile import open_days, reconcile_days
from pipeline.conversations.repair import take_out_damage
from pipeline.lake import engine
from pipeline.lake.damage import is_sound
from pipeline.lake.manifest import Work, days_that_owe, has_all_records, manifest_of
from pipeline.lake.schemas import OBSERVED, TOKENS
from pipeline.lake.store import Lake
from pipeline.timeline import day_window


def derive(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    asked: Mapping[date, int] | None = None,
    read_at: float = 0.0,
) -> None:
    """Observe and reconcile the days of `asked`, and all that owe it.

    Of each day in `asked` is counted what lies before a time of its own (Unix seconds, on a
    minute's edge), as far as the listings were read at `read_at`. Every other day keeps the bounds
    that it was observed in. A day whose items are dropped, or that is still to be read again, is
    left as it is. Raises OSError when the disk fails, duckdb.Error when memory does: what
    is not done then is still owed.
    """
    asked = asked or {}
    # Days that were observed before there were tokens have none yet.
    older = set(lake.days(OBSERVED["1m"].name)) - set(lake.days(TOKENS["1m"].name))
    owing = {day: _extent(lake, day) for day in {*_owing(lake, "observe"), *older}}
    observe_days(con, lake, {**owing, **asked}, dict.fromkeys(asked, read_at))
    todo = {*asked, *_owing(lake, "reconcile")}
    if todo:
        # What is stored of one day may explain differences on another.
        todo |= set(open_days(con, lake))
        reconcile_days(con, lake, _comparable(lake, todo))


def finish(lake: Lake) -> None:
    """Derive what a process that was ended has left to be derived, if there is anything."""
    if _owing(lake, "observe", "reconcile"):
        with closing(engine.connect(lake)) as con:
            with lake.lock("records"):
                take_out_damage(con, lake, lake.all_days())
            derive(con, lake)


def _owing(lake: Lake, *work: Work) -> list[date]:
    """The days that owe work which can be done: what is to be read again comes first."""
    owing = days_that_owe(lake, *work)
    return [day for day in owing if has_all_records(manifest_of(lake.version(day)))]


def _extent(lake: Lake, day: date) -> int:
    """Through when a day was observed; through when its usage goes, where that is not known."""
    for name in ("observed_1m", "observed_1h", "observed_1d", "usage_1d"):
        loaded = lake.loaded(name, day)
        if loaded is not None:
            return loaded.window.end
    return day_window(day).end


def _comparable(lake: Lake, days: Collection[date]) -> list[date]:
    """The days that have both sides; the others are reconciled once they have."""
    return [
        day
        for day in sorted(days)
        if all(is_sound(lake.file(name, day)) for name in ("usage_1d", "observed_1d"))
    ]
