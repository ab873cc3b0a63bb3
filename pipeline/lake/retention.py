"""How long fine tables are kept: those of old days are dropped, the coarser ones stay.

Belongs here: which tables of which days are to be there, and making the lake so. A table that was
dropped is neither missing nor empty: `coverage` says `dropped`, and a later load of the day leaves
it out. A day is dropped once its usage is final: what is disputed may have to be looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from typing import Final

from pipeline.apart import is_apart, last_of
from pipeline.lake import engine
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.manifest import Manifest, is_final, manifest_of
from pipeline.lake.schemas import (
    ITEM_CONTENTS,
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
    "contents": (ITEM_CONTENTS.name,),
}
"""What is kept or dropped together. Rows as served, and what was restated, are minutes too."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of the lake, by kind: the days that were dropped, and those that are to be kept
    again, which a load brings back. `not_final` are days that are old enough and not dropped."""

    dropped: Mapping[Kind, Sequence[date]]
    kept_again: Mapping[Kind, Sequence[date]]
    not_final: Sequence[date]

    @property
    def days(self) -> list[date]:
        """The days that have changed, in order."""
        both = (*self.dropped.values(), *self.kept_again.values())
        return sorted({day for days in both for day in days})


def prune(
    lake: Lake, retention: Retention, now: float, on_day: Callable[[date], None] = lambda _: None
) -> Pruned:
    """Let each day have the tables that it is to have at `now` (Unix seconds).

    Waits for loads of the days concerned. Readers of what was dropped can finish, within a day.
    Raises OSError when the disk fails; days that are done are done.
    """
    today = day_of(int(now))
    dropped: dict[Kind, list[date]] = {}
    again: dict[Kind, list[date]] = {}
    not_final: list[date] = []
    with closing(engine.connect(lake)) as con:
        for day in lake.all_days():
            if _wanted(retention, day, today, manifest_of(lake.version(day))) is None:
                continue
            with lake.day_lock(day):
                record = manifest_of(lake.version(day))
                wanted = _wanted(retention, day, today, record)
                if wanted is None:
                    continue
                if wanted - {*record.dropped} and not _is_settled(lake, day, record):
                    not_final.append(day)
                    continue
                publish_days(con, lake, {day: Change(dropped=wanted)})
            for kind in KINDS:
                if {*TABLES[kind]} & (wanted - {*record.dropped}):
                    dropped.setdefault(kind, []).append(day)
                if {*TABLES[kind]} & ({*record.dropped} - wanted):
                    again.setdefault(kind, []).append(day)
            on_day(day)
    return Pruned(dropped, again, not_final)


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
    last = last_of(day) if is_apart(day) else day
    wanted = dropped_at(retention, (today - last).days) & there
    return None if wanted == {*record.dropped} else wanted


def _is_settled(lake: Lake, day: date, record: Manifest) -> bool:
    return USAGE["1d"].name not in record.files or is_final(lake, day, record)
