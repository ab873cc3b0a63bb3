"""Load UTC days: the one place where the API meets the lake.

Belongs here: which windows are asked for, how many at once, pages into columns, and what is
kept when something fails. Does not belong here: Dagster (`pipeline.assets`), HTTP, SQL, files.

Each day is a walk of its own. It is spooled to disk page by page, and landed, rolled up and
published as soon as its walk has drained, while other days are still being read. So a run that
stops at day 40 has published the others, whole, at every width; and memory holds a few pages,
however long the range. The API is always asked on minute edges, in 1m buckets grouped by both ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import chain, repeat
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.api import ApiError, Client, PageSize, UsagePage, UsageQuery, get_usage, walk_usage
from pipeline.lake import engine
from pipeline.lake.audit import AuditError
from pipeline.lake.rollup import DayPublished, publish_day
from pipeline.lake.spool import SERVED_ROWS, Spool
from pipeline.lake.store import ContractError, Lake
from pipeline.timeline import Window, closed_through, day_window

DAYS_AT_ONCE: Final = 4
"""Walks in flight; how many requests are is the client's limit."""

_FAILURES: Final = (ApiError, AuditError, ContractError, OSError, duckdb.Error, pa.ArrowException)
"""What can befall one day and leaves the others as they are."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Sent after each page and once a day is published. Times are Unix seconds, UTC."""

    day: date
    through: int
    """Up to where the day has been read."""
    rows: int
    published: DayPublished | None = None


class LoadError(Exception):
    """Some days could not be loaded; `published` has those that were, `missing` the others.

    The message says what went wrong first, what is kept, and how to resume.
    """

    def __init__(
        self, published: Sequence[DayPublished], missing: Sequence[date], why: str
    ) -> None:
        self.published = tuple(published)
        self.missing = tuple(missing)
        days = len(published) + len(missing)
        after_last = max(missing) + timedelta(days=1)
        super().__init__(
            f"{why}\n{len(published)} of {days} days are loaded and kept. "
            f"Resume with: mka1-usage run --start {min(missing)} --end {after_last}"
        )


def load_days(
    connect: Callable[[], Client],
    lake: Lake,
    days: Sequence[date],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    now: Callable[[], float] = time.time,
) -> list[DayPublished]:
    """Load and publish each of `days`; `connect` makes the client that they share.

    A day that is not over at `now` is loaded up to the last closed minute; one that has not begun
    is a ValueError. Days are published as they finish; the result is in the order of `days`.
    Raises LoadError when a day failed; days that had not been begun by then are not begun.
    """
    through = closed_through(now())
    windows = {day: _known_part(day, through) for day in sorted(set(days))}
    return asyncio.run(_load(connect, lake, windows, on_progress or (lambda _: None)))


def _known_part(day: date, through: int) -> Window:
    whole = day_window(day)
    if whole.start >= through:
        raise ValueError(f"{day} has no closed minute yet: there is nothing to load")
    return Window(whole.start, min(whole.end, through))


async def _load(
    connect: Callable[[], Client],
    lake: Lake,
    windows: dict[date, Window],
    on_progress: Callable[[Progress], None],
) -> list[DayPublished]:
    published: dict[date, DayPublished] = {}
    failures: dict[date, Exception] = {}
    to_load = iter(windows.items())
    # One thread each, so that pages are spooled and days landed while others are being read.
    with ThreadPoolExecutor(1) as spooling, ThreadPoolExecutor(1) as landing:
        async with connect() as client:
            size = PageSize()

            async def load_until_something_fails() -> None:
                for day, window in to_load:
                    if failures:
                        return
                    walk = partial(_walk, client, day, window, size, spooling, on_progress)
                    try:
                        published[day] = await _load_day(lake, day, window, walk, landing)
                    except _FAILURES as error:
                        failures[day] = error
                    else:
                        rows = published[day].rows["raw_usage"]
                        on_progress(Progress(day, window.end, rows, published[day]))

            async with asyncio.TaskGroup() as walks:
                for _ in range(DAYS_AT_ONCE):
                    walks.create_task(load_until_something_fails())
    done = [published[day] for day in windows if day in published]
    if failures:
        first = min(failures)
        missing = [day for day in windows if day not in published]
        raise LoadError(done, missing, f"{first}: {failures[first]}") from failures[first]
    return done


async def _load_day(
    lake: Lake,
    day: date,
    window: Window,
    walk: Callable[[Spool], Awaitable[None]],
    landing: ThreadPoolExecutor,
) -> DayPublished:
    with lake.staging() as folder:
        spool = Spool(folder)
        await walk(spool)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(landing, _land, lake, day, window, spool)


def _land(lake: Lake, day: date, window: Window, spool: Spool) -> DayPublished:
    with closing(engine.connect(spool.folder)) as con:
        return publish_day(con, lake, day, window, spool)


async def _walk(
    client: Client,
    day: date,
    window: Window,
    size: PageSize,
    spooling: ThreadPoolExecutor,
    on_progress: Callable[[Progress], None],
    spool: Spool,
) -> None:
    """Spool every page of the window; returns once the walk has drained."""
    query = UsageQuery(window.start, window.end, "1m", group_by=("user_id", "api_key_id"))
    loop = asyncio.get_running_loop()
    async for page in walk_usage(partial(get_usage, client), query, size):
        await loop.run_in_executor(spooling, _keep, spool, page, client.now())
        through = max((bucket.end_time for bucket in page.buckets), default=window.start)
        on_progress(Progress(day, through, spool.rows))


def _keep(spool: Spool, page: UsagePage, fetched_at: float) -> None:
    spool.add(
        [bucket.start_time for bucket in page.buckets], _rows(page, spool.buckets, fetched_at)
    )


def _rows(page: UsagePage, first_serving: int, fetched_at: float) -> pa.Table:
    """A page's result rows as SERVED_ROWS: each with its bucket's times and serving number."""
    results = list(chain.from_iterable(bucket.results for bucket in page.buckets))
    place = pa.array(
        list(chain.from_iterable(repeat(i, len(b.results)) for i, b in enumerate(page.buckets))),
        pa.int64(),
    )
    starts = pa.array([bucket.start_time * 1_000_000 for bucket in page.buckets], pa.int64())
    ends = pa.array([bucket.end_time * 1_000_000 for bucket in page.buckets], pa.int64())
    fetched = pa.scalar(int(fetched_at * 1_000_000), pa.int64())
    moment = SERVED_ROWS.field("start_time").type
    return pa.table(
        [
            starts.take(place).cast(moment),
            ends.take(place).cast(moment),
            pa.array([result.user_id for result in results], pa.string()),
            pa.array([result.api_key_id for result in results], pa.string()),
            pa.array([result.num_conversations_created for result in results], pa.int64()),
            pa.array([result.num_items_added for result in results], pa.int64()),
            pa.array([result.num_operations for result in results], pa.int64()),
            pa.nulls(len(results), pa.string())
            if page.extras is None
            else pa.array(page.extras, pa.string()),
            pa.repeat(fetched, len(results)).cast(moment),
            pc.add(place, first_serving),
        ],
        schema=SERVED_ROWS,
    )
