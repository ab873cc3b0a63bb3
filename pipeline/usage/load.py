"""Load UTC days: walk their pages, roll them up, check their totals, publish.

Belongs here: which windows are requested, how many at once, pages into columns, and what is kept
when something fails.

A day's pages go to disk as they come. Once the day is read whole it is rolled up and published,
while the next is being read; so a run that stops at day 40 has published the 39 before it, and
memory holds a few pages. docs/design.md, "Exactness and the totals check", says what happens where
the totals differ from the API's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Final

import duckdb
import pyarrow as pa
from filelock import Timeout

from pipeline.api import ApiError, Client, PageSize
from pipeline.async_runner import run_async
from pipeline.lake import user_id_mode
from pipeline.lake.consistency import ConsistencyError
from pipeline.lake.files import ContractError
from pipeline.lake.forgotten import LakeIds
from pipeline.lake.manifest import reading_of
from pipeline.lake.shortage import shortage
from pipeline.lake.store import Lake
from pipeline.messages import count
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import SECONDS, Window, closed_through, day_of, day_window
from pipeline.usage.changed_hours import ChangedHours, Reads, by_hour
from pipeline.usage.feed import CONVERSATIONS, Feed
from pipeline.usage.page_buffer import Chunk, PageBuffer
from pipeline.usage.rollup import DayPublished
from pipeline.usage.settle import DayRead, Settlement
from pipeline.usage.totals_check import TotalsOfApi
from pipeline.usage.worker import Worker

FAILURES: Final = (
    ApiError,
    ConsistencyError,
    ContractError,
    OSError,
    duckdb.Error,
    pa.ArrowException,
)
"""What can befall one day and leaves the others as they are."""

_LOOK_AGAIN: Final = 0.05
"""Seconds between two looks at a day that another run has."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Sent after each page, and once when a day is published: the rows served of it so far.

    `waiting`: another run has the day, and this one waits until it is done with it. `endpoint`:
    that of the feed.
    """

    day: date
    rows: int
    published: DayPublished | None = None
    waiting: bool = False
    endpoint: str = ""


class LoadError(Exception):
    """Some days could not be loaded; `published` has those that were, `missing` the others.

    The message says what went wrong first, and what is kept.
    """

    def __init__(
        self, published: Sequence[DayPublished], missing: Sequence[date], why: str
    ) -> None:
        self.published = tuple(published)
        self.missing = tuple(missing)
        days = len(published) + len(missing)
        super().__init__(f"{why}\nLoaded and kept: {len(published)} of {count(days, 'day')}.")


def load_days(
    connect: Callable[[], Client],
    lake: Lake,
    days: Sequence[date],
    *,
    feed: Feed = CONVERSATIONS,
    reads: Reads = "full",
    pseudonyms: Pseudonyms | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    now: Callable[[], float] = time.time,
) -> list[DayPublished]:
    """Load and publish each of `days` of one endpoint; `connect` makes the client that they share.

    Of days that are loaded already, `reads` says what is asked for again; the tables become the
    same, as far as the API's totals show what it has restated.
    A day that is not over at `now` (Unix seconds) is loaded up to the last closed minute; one that
    has not begun is a ValueError, or fails where the API's clock says so. Days are published as
    they finish; the result is in the order of `days`. Raises LoadError when a day failed; days that
    had not been begun by then are not begun. With `pseudonyms`, no user id is written as it is;
    UserIdModeError where the lake holds other ids.
    """
    through = closed_through(now())
    windows = {day: _known_part(day, through) for day in sorted(set(days))}
    user_id_mode.claim(lake, pseudonyms.fingerprint if pseudonyms else None)
    ids = LakeIds(lake, pseudonyms)
    load = _Load(lake, windows, feed, reads, _of_endpoint(feed.endpoint, on_progress), ids)

    async def run() -> None:
        async with connect() as client:
            await load.run(client, now)

    run_async(run())
    done = [load.published[day] for day in windows if day in load.published]
    if load.failures:
        first = min(load.failures)
        missing = [day for day in windows if day not in load.published]
        why = f"{first}: {shortage(load.failures[first]) or load.failures[first]}"
        raise LoadError(done, missing, why) from load.failures[first]
    return done


def _of_endpoint(
    endpoint: str, on_progress: Callable[[Progress], None] | None
) -> Callable[[Progress], None]:
    """A listener that says which endpoint it is about."""
    if on_progress is None:
        return lambda _: None
    return lambda progress: on_progress(replace(progress, endpoint=endpoint))


def _known_part(day: date, through: int) -> Window:
    whole = day_window(day)
    if whole.start >= through:
        raise ValueError(f"{day} has no closed minute yet: there is nothing to load")
    return Window(whole.start, min(whole.end, through))


def _as_far_as_loaded(lake: Lake, feed: Feed, window: Window, through: int) -> Window:
    """The window of a day, or that of another run which has loaded more of it since this one began:
    what it has loaded, as far as it is closed by now, is not taken back."""
    day = day_of(window.start)
    reading = reading_of(lake.version(day), feed.endpoint)
    # A file that was put in the place of the day's own says of another day how far it goes.
    loaded = min(reading.through, through, day_window(day).end) if reading else 0
    return Window(window.start, max(window.end, loaded))


def _not_begun(ahead: float) -> ApiError:
    return ApiError(
        "has no closed minute yet by the API's clock, and the clock of this machine is "
        f"{ahead:,.0f} s ahead of it: set it right, for example by `timedatectl set-ntp true`"
    )


class _Load:
    """Days in order, each cut into parts that are walked several at once.

    Parts are handed out in the order of time, so days are finished one after another. A part's walk
    is what guarantees the part. After a failure no further day is begun.
    """

    def __init__(
        self,
        lake: Lake,
        windows: dict[date, Window],
        feed: Feed,
        reads: Reads,
        on_progress: Callable[[Progress], None],
        ids: LakeIds,
    ) -> None:
        self.published: dict[date, DayPublished] = {}
        self.failures: dict[date, Exception] = {}
        self._lake = lake
        self._windows = windows
        self._feed = feed
        self._reads = reads
        self._on_progress = on_progress
        self._ids = ids
        self._current: DayRead | None = None
        self._size = PageSize()
        self._held = ExitStack()  # what is left of days that an interrupt cut off
        self._choosing = asyncio.Lock()
        self._worker = Worker(lake)
        self._not_begun: dict[date, Exception] = {}
        self._now: Callable[[], float]
        self._changed: ChangedHours
        self._settlement: Settlement
        self._to_begin: Iterator[tuple[date, Window]]

    async def run(self, client: Client, now: Callable[[], float]) -> None:
        """Load all days, as far as they can be loaded."""
        with self._held, self._worker:
            if await self._prepare(client, now):
                workers = (self._work(client) for _ in range(client.limits.concurrency))
                await asyncio.gather(*workers)
        self.failures |= self._not_begun

    async def _prepare(self, client: Client, now: Callable[[], float]) -> bool:
        """Ask what the API says of the days, and learn from its answers what time it is.

        Returns whether there is anything to load. Days that have not begun by the API's clock fail.
        """
        first = next(iter(self._windows), None)
        if first is None:
            return False
        self._now = client.clock.over(now)
        windows = asked = self._windows
        try:
            try:
                await self._ask(client, windows)
            except ApiError:
                if not client.clock.ahead:  # else the days asked for may not have begun
                    raise
            if client.clock.ahead:
                through = closed_through(self._now())
                begun = (day for day in windows if day_window(day).start < through)
                windows = self._windows = {day: _known_part(day, through) for day in begun}
                not_begun = _not_begun(client.clock.ahead)
                self._not_begun = {day: not_begun for day in asked if day not in windows}
                await self._ask(client, windows)
        except ApiError as error:
            self.failures[first] = error
            return False
        self._to_begin = iter([*windows.items()])
        return bool(windows)

    async def _ask(self, client: Client, windows: Mapping[date, Window]) -> None:
        """Ask for totals, by which days are compared: as much as this load goes by."""
        feed, lake = self._feed, self._lake
        self._changed = changed = ChangedHours(client, lake, feed, self._ids.now, self._now)
        loaded = [day for day in windows if reading_of(lake.version(day), feed.endpoint)]
        if self._reads == "days":
            await changed.ask_users(day for day in loaded if windows[day] == day_window(day))
        if self._reads != "full" and loaded:
            await changed.ask_hours(windows)
        hours = by_hour(changed.hours) if changed.asked else None
        totals = TotalsOfApi(client, windows, feed, hours)
        if windows:
            await totals.of(next(iter(windows)))
        again = partial(self._read_anew, client)
        self._settlement = Settlement(lake, feed, self._worker, totals, changed, again, self._now)

    async def _work(self, client: Client) -> None:
        while task := await self._next(client):
            day, part = task
            if part is None:  # nothing is left to be asked for
                await self._finish(day)
                continue
            try:
                await self._walk(client, day, part, day.size)
            except FAILURES as error:
                self.failures.setdefault(day.day, error)
            day.open_parts -= 1
            if day.day in self.failures:
                if not day.open_parts:  # the others still write into its folder
                    day.held.close()
            elif day.drained:
                await self._finish(day)

    async def _finish(self, day: DayRead) -> None:
        """Publish a day that was read whole."""
        with day.held:
            try:
                publishing = await self._settlement.publishing(day)
            except FAILURES as error:
                self.failures[day.day] = error
                return
            try:
                await asyncio.wait([publishing])
            finally:  # an interrupt waits for it too: no day is published without a report
                await asyncio.wait([publishing])
                self._report(day, publishing)

    async def _read_anew(self, client: Client, day: DayRead) -> None:
        """Ask for every minute of a day again, hour by hour."""
        day.buffer.remove()
        day.buffer, day.kept = self._buffer(client, day.day, day.window), None
        size = PageSize(buckets=60)  # one for all: it learns the API's own limits
        for hour in day.window.cut(SECONDS["1h"]):
            await self._walk(client, day, hour, size)

    def _report(self, day: DayRead, publishing: asyncio.Future[DayPublished]) -> None:
        try:
            self.published[day.day] = published = publishing.result()
        except FAILURES as error:
            self.failures[day.day] = error
        else:
            day.buffer.remove()
            self._on_progress(
                Progress(
                    day.day, published.rows.get(self._feed.raw.name, day.buffer.rows), published
                )
            )

    async def _next(self, client: Client) -> tuple[DayRead, Window | None] | None:
        """The next part to walk, of the day that is being read or of the next one.

        No part where a day begins of which nothing is left to be read.
        """
        async with self._choosing:
            while True:
                if self._current is not None and self._current.day not in self.failures:
                    part = self._current.next_part()
                    if part is not None:
                        return self._current, part
                begun = None if self.failures else next(self._to_begin, None)
                if begun is None:
                    self._worker.all_read = True
                    return None
                self._current = await self._begin(client, *begun)
                if self._current is not None and self._current.drained:
                    return self._current, None

    async def _begin(self, client: Client, day: date, window: Window) -> DayRead | None:
        """Take a day, once no other run has it; None where something failed in the meantime."""
        lock, reported = self._lake.day_lock(day), False
        while not self.failures:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if not reported:
                    self._on_progress(Progress(day, 0, waiting=True))
                reported = True
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            held = self._held.enter_context(ExitStack())
            held.callback(lock.release)
            try:
                return await self._begun(client, day, window, held)
            except FAILURES as error:
                held.close()
                self.failures[day] = error
        return None

    async def _begun(self, client: Client, day: date, window: Window, held: ExitStack) -> DayRead:
        """A day whose lock is held, with what is to be asked of it."""
        through = closed_through(self._now())
        window = self._windows[day] = _as_far_as_loaded(self._lake, self._feed, window, through)
        buffer = self._buffer(client, day, window)
        kept = await self._changed.kept(day, window)
        if kept is None:
            return DayRead(day, window, buffer, held, buffer.gaps(), self._size)
        to_ask = window.without([*buffer.covered, *kept.windows])
        minutes = kept.standing.minutes_in(self._size.target_bytes, self._feed)
        return DayRead(day, window, buffer, held, to_ask, PageSize(buckets=minutes), kept)

    def _buffer(self, client: Client, day: date, window: Window) -> PageBuffer:
        folder, schema = self._lake.partial(day, self._feed.endpoint), self._feed.served_rows
        return PageBuffer(folder, client.account, window, self._now(), schema)

    async def _walk(self, client: Client, day: DayRead, window: Window, size: PageSize) -> None:
        """Keep every page of a part; returns once it was read whole."""
        feed = self._feed
        with Chunk(day.buffer, window) as chunk:
            async for page in feed.pages(client, window, "1m", size, "all"):
                # In this thread: a page takes milliseconds, and a second thread would only fight
                # with this one for the interpreter.
                rows = feed.rows(page, chunk.servings, client.clock(), self._ids.now)
                chunk.add([bucket.start_time for bucket in page.buckets], rows)
                self._on_progress(Progress(day.day, day.buffer.rows))
            chunk.finish()
