"""Find what the API has restated, however long ago, and load exactly those days again.

Belongs here: the comparison day by day, user by user and key by key (docs/design.md, "Refresh"). An
equal day is confirmed: what was provisional because it was read early becomes final.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date

import duckdb
import pyarrow as pa

from pipeline.apart import is_apart
from pipeline.api import Client
from pipeline.async_runner import run_async
from pipeline.lake import engine, user_id_mode
from pipeline.lake.forgotten import LakeIds
from pipeline.lake.manifest import reading_of
from pipeline.lake.shortage import shortage
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms, UserIds
from pipeline.timeline import closed_through, day_of, day_window
from pipeline.usage.changed_hours import ChangedHours, Standing
from pipeline.usage.feed import CONVERSATIONS, Feed
from pipeline.usage.load import Progress, load_days
from pipeline.usage.rollup import DayPublished


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh found. `changed` are the days that are to be loaded, or were."""

    compared: tuple[date, ...]
    changed: tuple[date, ...]
    requests: int
    """Sent for the comparison."""
    published: tuple[DayPublished, ...] = ()
    endpoint: str = ""


def refresh_days(
    connect: Callable[[], Client],
    lake: Lake,
    days: Sequence[date] | None = None,
    *,
    feed: Feed = CONVERSATIONS,
    pseudonyms: Pseudonyms | None = None,
    on_found: Callable[[Refreshed], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    now: Callable[[], float] = time.time,
) -> Refreshed:
    """Compare loaded days (all by default) with the API, and load again those that differ.

    A day that is over but was loaded only in part, or has a damaged file, counts as one that
    differs; the open day is left to the trailing window. `on_found` is called with what is going
    to be loaded. Raises ApiError when the API can't be asked, and what `load_days` raises.
    """
    user_id_mode.check(lake, pseudonyms.fingerprint if pseudonyms else None)
    asked_at = now()
    today = day_of(closed_through(asked_at))
    if days is None:
        days = days_to_compare(lake, feed)
    damaged = _damaged_days(_seen(lake, feed, days))
    wanted = [day for day in days if day < today]
    whole: list[Standing] = []
    in_part: list[date] = []
    to_reload = set(feed.to_reload(lake, asked_at))
    for day in wanted:
        version = lake.version(day)
        reading = reading_of(version, feed.endpoint)
        again = version is None or reading is None or day in damaged or day in to_reload
        if version is None or reading is None or again or reading.through < day_window(day).end:
            in_part.append(day)
        else:
            whole.append(Standing(day, version, reading))
    requests, differing, same = 0, set[date](), list[Standing]()
    if whole:
        requests, differing, same = run_async(
            _compared(connect, lake, feed, LakeIds(lake, pseudonyms).now, whole, now)
        )
    asked_at = min(asked_at, now())  # an answer may have shown that the clock is ahead
    today = day_of(closed_through(asked_at))
    changed = tuple(sorted(day for day in {*in_part, *differing} if day < today))
    found = Refreshed(tuple(wanted), changed, requests, endpoint=feed.endpoint)
    if on_found is not None:
        on_found(found)
    _confirm(lake, feed, same, asked_at)
    if not changed:
        return found
    published = load_days(
        connect,
        lake,
        changed,
        feed=feed,
        reads="days",
        pseudonyms=pseudonyms,
        on_progress=on_progress,
        now=now,
    )
    return replace(found, published=tuple(published))


def days_to_compare(lake: Lake, feed: Feed) -> list[date]:
    """The days that a refresh compares by default: those that are loaded or have a damaged file."""
    seen = _seen(lake, feed)
    days = seen.days(feed.tables["1d"].name)
    loaded = (day for day in days if feed.loaded(lake, day) is not None)
    return sorted({*loaded, *_damaged_days(seen)})


def _seen(lake: Lake, feed: Feed, days: Sequence[date] | None = None) -> Snapshot:
    names = {feed.raw.name, *(dataset.name for dataset in feed.tables.values())}
    return Snapshot(lake, days, names=names)


def _damaged_days(seen: Snapshot) -> set[date]:
    return {one.day for one in seen.damage if not is_apart(one.day)}


async def _compared(
    connect: Callable[[], Client],
    lake: Lake,
    feed: Feed,
    ids: UserIds | None,
    whole: Sequence[Standing],
    now: Callable[[], float],
) -> tuple[int, set[date], list[Standing]]:
    """How many requests it took, which days differ, and which are the same by user and key.

    A day that is too big for that is compared by its hours and keys, and is not among the last.
    """
    differing: set[date] = set()
    same: list[Standing] = []
    async with connect() as client:
        api = ChangedHours(client, lake, feed, ids, now)
        await api.ask_users(one.day for one in whole)
        too_big = [one for one in whole if not api.knows_users(one.day)]
        await api.ask_hours({one.day: one.window for one in too_big})
    for one in whole:
        by_user = one not in too_big
        try:
            agrees = (
                api.same_users(one.day, one.file(feed, "1d"))
                if by_user
                # Hours that are not kept can't be compared: the day stays as it is.
                else not (one.file(feed, "1h").is_file() and api.other_hours(one, one.window))
            )
        except (OSError, pa.ArrowException, duckdb.Error) as error:
            if shortage(error):
                raise
            agrees = False  # garbage: it is loaded again
        if not agrees:
            differing.add(one.day)
        elif by_user:
            same.append(one)
    return client.requests, differing, same


def _confirm(lake: Lake, feed: Feed, same: Sequence[Standing], at: float) -> None:
    """Note of days that were read too early to be final that they are still the same."""
    with closing(engine.connect(lake)) as con:
        for one in same:
            if one.reading.read_at < lake.final_from(one.day) <= at:
                with lake.day_lock(one.day):
                    if lake.version(one.day) == one.version:
                        feed.confirm(con, lake, one.day, at, "usage")
