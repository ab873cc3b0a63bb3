"""How long fine tables are kept: those of old days are dropped, the coarser ones stay.

Belongs here: which tables of which days are to be there, and making the lake so. A table that was
dropped is neither missing nor empty: `coverage` says `dropped`, and a later load of the day leaves
it out. A day is dropped once its usage is final: what is disputed may have to be looked into. Its
items are dropped once they are counted as well, since they can't be counted again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import duckdb

from pipeline.apart import apart, is_apart, last_of
from pipeline.lake import engine
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.dropped_items import is_counted, kept_apart, to_sweep
from pipeline.lake.manifest import (
    Manifest,
    Work,
    days_without_items,
    is_final,
    manifest_of,
)
from pipeline.lake.schemas import (
    ITEM_CONTENTS,
    ITEMS,
    METER_REVISIONS,
    METERS,
    OBSERVED,
    RAW_METERS,
    RAW_USAGE,
    REVISIONS,
    TOKENS,
    USAGE,
)
from pipeline.lake.store import Lake
from pipeline.retention import KINDS, Kind, Retention
from pipeline.timeline import day_of

_BY_WIDTH: Final = (USAGE, METERS, OBSERVED, TOKENS)
TABLES: Final[Mapping[Kind, tuple[str, ...]]] = {
    "minutes": (
        *(it.name for it in (RAW_USAGE, RAW_METERS, REVISIONS, METER_REVISIONS)),
        *(tables["1m"].name for tables in _BY_WIDTH),
    ),
    "hours": tuple(tables["1h"].name for tables in _BY_WIDTH),
    "items": (ITEMS.name,),
    "contents": (ITEM_CONTENTS.name,),
}
"""What is kept or dropped together. Rows as served, and what was restated, are minutes too."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of the lake, by kind: the days that were dropped, and those that are to be kept
    again, which a load brings back.

    `not_final` are days that are old enough and not dropped, `not_counted` such days whose items
    are not. `swept` are places from which items went that stood apart.
    """

    dropped: dict[Kind, list[date]] = field(default_factory=dict[Kind, list[date]])
    kept_again: dict[Kind, list[date]] = field(default_factory=dict[Kind, list[date]])
    not_final: list[date] = field(default_factory=list[date])
    not_counted: list[date] = field(default_factory=list[date])
    swept: list[date] = field(default_factory=list[date])

    @property
    def days(self) -> list[date]:
        """The days that have changed, in order."""
        both = (*self.dropped.values(), *self.kept_again.values(), self.swept)
        return sorted({day for days in both for day in days})


def prune(
    lake: Lake, retention: Retention, now: float, on_day: Callable[[date], None] = lambda _: None
) -> Pruned:
    """Let each day have the tables that it is to have at `now` (Unix seconds).

    Waits for loads of the days concerned. Readers of what was dropped can finish, within a day.
    Raises OSError when the disk fails; days that are done are done.
    """
    today = day_of(int(now))
    pruned = Pruned()
    swept = defaultdict[date, list[date]](list)
    for day in days_without_items(lake):
        swept[apart(day)].append(day)
    with closing(engine.connect(lake)) as con:
        for day in lake.all_days():
            if day in swept:
                _sweep(con, lake, day, swept[day], pruned)
            if _wanted(retention, day, today, manifest_of(lake.version(day))) is None:
                continue
            # Items move to where they stand apart: nothing may be merged there meanwhile.
            with lake.lock("records"), lake.day_lock(day):
                record = manifest_of(lake.version(day))
                wanted = _wanted(retention, day, today, record)
                wanted = None if wanted is None else _ready(lake, day, record, wanted, pruned)
                if wanted is None:
                    continue
                _drop(con, lake, day, record, wanted)
            for kind in KINDS:
                if {*TABLES[kind]} & (wanted - {*record.dropped}):
                    pruned.dropped.setdefault(kind, []).append(day)
                if {*TABLES[kind]} & ({*record.dropped} - wanted):
                    pruned.kept_again.setdefault(kind, []).append(day)
            on_day(day)
    return pruned


def _ready(
    lake: Lake, day: date, record: Manifest, wanted: frozenset[str], pruned: Pruned
) -> frozenset[str] | None:
    """What of the tables that are to be dropped can be now; None where nothing changes."""
    new = wanted - {*record.dropped}
    if new and not _is_settled(lake, day, record):
        pruned.not_final.append(day)
        return None
    if ITEMS.name in new and not is_counted(lake, day, record):
        pruned.not_counted.append(day)
        wanted -= {ITEMS.name}
    return None if wanted == {*record.dropped} else wanted


def _drop(
    con: duckdb.DuckDBPyConnection, lake: Lake, day: date, record: Manifest, wanted: frozenset[str]
) -> None:
    """Let `wanted` be the tables that a day does not keep, at one stroke with what stands apart."""
    items = ITEMS.name
    # Of no items nothing can be counted: first they are to be read again.
    again: tuple[Work, ...] = ("read", "observe", "reconcile")
    owes = again if items in {*record.dropped} - wanted else ()
    changes = {day: Change(dropped=wanted, owes=owes)}
    with lake.staging() as folder:
        if items in wanted - {*record.dropped}:
            path = kept_apart(con, lake, [day], folder, dropping=[day])
            changes |= {apart(day): Change({items: path})} if path else {}
        publish_days(con, lake, changes)


def _sweep(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    place: date,
    days: Sequence[date],
    pruned: Pruned,
) -> None:
    """Drop what has come to stand apart of days since their items were dropped."""
    with lake.lock("records"), lake.staging() as folder:
        found = to_sweep(lake, place, days)
        path = kept_apart(con, lake, found, folder) if found else None
        if path and publish_days(con, lake, {place: Change({ITEMS.name: path})})[place]:
            pruned.swept.append(place)


def dropped_days(lake: Lake) -> dict[Kind, list[date]]:
    """The days of which tables were dropped, by kind, in order."""
    found: dict[Kind, list[date]] = {}
    for day in lake.all_days():
        dropped = {*manifest_of(lake.version(day)).dropped}
        for kind in KINDS if dropped else ():
            if dropped & {*TABLES[kind]}:
                found.setdefault(kind, []).append(day)
    return found


def dropped_at(retention: Retention, age: int) -> frozenset[str]:
    """The tables that a day of so many days ago is not to have."""
    return frozenset(
        name
        for kind in KINDS
        if (kept := retention.days(kind)) is not None and age > kept
        for name in TABLES[kind]
    )


def _wanted(
    retention: Retention, day: date, today: date, record: Manifest
) -> frozenset[str] | None:
    """The tables that are to be dropped; None where it is so already."""
    there = record.files.keys() | {*record.dropped}
    if USAGE["1d"].name not in record.files:  # such items are not counted: their day is not loaded
        there -= {ITEMS.name} - {*record.dropped}
    last = last_of(day) if is_apart(day) else day
    wanted = dropped_at(retention, (today - last).days) & there
    return None if wanted == {*record.dropped} else wanted


def _is_settled(lake: Lake, day: date, record: Manifest) -> bool:
    return USAGE["1d"].name not in record.files or is_final(lake, day, record)
