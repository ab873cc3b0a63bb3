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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import pyarrow as pa
from filelock import Timeout

from pipeline.api import ApiError, Client, PageSize
from pipeline.async_runner import run_async
from pipeline.lake import engine, user_id_mode
from pipeline.lake.consistency import ConsistencyError
from pipeline.lake.files import ContractError
from pipeline.lake.shortage import shortage
from pipeline.lake.store import Lake
from pipeline.messages import count
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import SECONDS, Window, closed_through, day_window
from pipeline.usage.feed import CONVERSATIONS, Feed
from pipeline.usage.page_buffer import Chunk, PageBuffer
from pipeline.usage.rollup import DayPublished, Staged
from pipeline.usage.totals_check import DayTotals, TotalsOfApi, staged_totals

T = TypeVar("T")

_FAILURES: Final = (
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
    pseudonyms: Pseudonyms | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    now: Callable[[], float] = time.time,
) -> list[DayPublished]:
    """Load and publish each of `days` of one endpoint; `connect` makes the client that they share.

    A day that is not over at `now` (Unix seconds) is loaded up to the last closed minute; one that
    has not begun is a ValueError, or fails where the API's clock says so. Days are published as
    they finish; the result is in the order of `days`. Raises LoadError when a day failed; days that
    had not been begun by then are not begun. With `pseudonyms`, no user id is written as it is;
    UserIdModeError where the lake holds other ids.
    """
    through = closed_through(now())
    windows = {day: _known_part(day, through) for day in sorted(set(days))}
    user_id_mode.claim(lake, pseudonyms.fingerprint if pseudonyms else None)
    load = _Load(lake, windows, feed, _of_endpoint(feed.endpoint, on_progress), pseudonyms)

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


async def _uninterrupted(working: asyncio.Future[T]) -> T:
    """The result of work in the background; an interrupt waits until that is done."""
    try:
        await asyncio.wait([working])
    finally:
        await asyncio.wait([working])
    return working.result()


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


def _not_begun(ahead: float) -> ApiError:
    return ApiError(
        "has no closed minute yet by the API's clock, and the clock of this machine is "
        f"{ahead:,.0f} s ahead of it: set it right, for example by `timedatectl set-ntp true`"
    )


@dataclass(slots=True)
class _Day:
    """A day that is being read: which of its minutes have been handed out, and its pages so far."""

    day: date
    window: Window
    buffer: PageBuffer
    held: ExitStack
    """Its lock, and its unfinished files."""
    to_ask: list[Window]
    open_parts: int = 0

    def next_part(self, buckets: int) -> Window | None:
        """The next minutes to ask for; None once all have been handed out."""
        if not self.to_ask:
            return None
        gap = self.to_ask.pop(0)
        part = Window(gap.start, min(gap.start + buckets * SECONDS["1m"], gap.end))
        if part.end < gap.end:
            self.to_ask.insert(0, Window(part.end, gap.end))
        self.open_parts += 1
        return part

    @property
    def drained(self) -> bool:
        """Whether every minute has been asked for and answered."""
        return not self.to_ask and not self.open_parts


class _Database(ExitStack):
    """The connections of a load; meanwhile its process has no other work for the database."""

    def __init__(self, lake: Lake) -> None:
        super().__init__()
        self._lake = lake
        self._first: duckdb.DuckDBPyConnection | None = None

    def connection(self, all_read: bool) -> duckdb.DuckDBPyConnection:
        """A connection of its own. One core is left to the thread that reads pages, if any."""
        if self._first is None:
            self._first = self.enter_context(closing(engine.connect(self._lake)))
            self.callback(engine.set_threads, self._first, self._lake)
        engine.set_threads(self._first, self._lake, spare=0 if all_read else 1)
        return self._first.cursor()


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
        on_progress: Callable[[Progress], None],
        pseudonyms: Pseudonyms | None,
    ) -> None:
        self.published: dict[date, DayPublished] = {}
        self.failures: dict[date, Exception] = {}
        self._lake = lake
        self._windows = windows
        self._feed = feed
        self._on_progress = on_progress
        self._pseudonyms = pseudonyms
        self._current: _Day | None = None
        self._size = PageSize()
        self._held = ExitStack()  # what is left of days that an interrupt cut off
        self._choosing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1)  # a day is rolled up while the next is being read
        self._database = _Database(lake)  # that thread's
        self._all_read = False
        self._not_begun: dict[date, Exception] = {}
        self._now: Callable[[], float]
        self._totals: TotalsOfApi
        self._to_begin: Iterator[tuple[date, Window]]

    async def run(self, client: Client, now: Callable[[], float]) -> None:
        """Load all days, as far as they can be loaded."""
        with self._held, self._database, self._thread:
            if await self._prepare(client, now):
                workers = (self._work(client) for _ in range(client.limits.concurrency))
                await asyncio.gather(*workers)
        self.failures |= self._not_begun

    async def _prepare(self, client: Client, now: Callable[[], float]) -> bool:
        """Ask for the first totals, and learn from the answer what time it is.

        Returns whether there is anything to load. Days that have not begun by the API's clock fail.
        """
        first = next(iter(self._windows), None)
        if first is None:
            return False
        self._now = client.clock.over(now)
        self._totals = TotalsOfApi(client, self._windows, self._feed)
        try:
            await self._totals.of(first)
        except ApiError as error:
            if not client.clock.ahead:  # else the days asked for may not have begun
                self.failures[first] = error
                return False
        windows = self._windows
        if client.clock.ahead:
            through = closed_through(self._now())
            begun = (day for day in windows if day_window(day).start < through)
            windows = {day: _known_part(day, through) for day in begun}
            not_begun = _not_begun(client.clock.ahead)
            self._not_begun = {day: not_begun for day in self._windows if day not in windows}
            self._totals = TotalsOfApi(client, windows, self._feed)
        self._to_begin = iter(windows.items())
        return bool(windows)

    async def _work(self, client: Client) -> None:
        while task := await self._next(client):
            day, part = task
            if part is None:  # an earlier run had read all of the day
                await self._finish(client, day)
                continue
            try:
                await self._walk(client, day, part, self._size)
            except _FAILURES as error:
                self.failures.setdefault(day.day, error)
            day.open_parts -= 1
            if day.day in self.failures:
                if not day.open_parts:  # the others still write into its folder
                    day.held.close()
            elif day.drained:
                await self._finish(client, day)

    async def _finish(self, client: Client, day: _Day) -> None:
        """Roll up and publish a day that was read whole."""
        with day.held:
            try:
                folder, staged, disputed = await self._settled(client, day)
            except _FAILURES as error:
                self.failures[day.day] = error
                return
            publishing = self._in_background(self._publish, folder, staged, disputed)
            try:
                await asyncio.wait([publishing])
            finally:  # an interrupt waits for it too: no day is published without a report
                await asyncio.wait([publishing])
                self._report(day, publishing)

    async def _settled(self, client: Client, day: _Day) -> tuple[Path, Staged, bool]:
        """Roll a day up and compare it with the API's totals: where it is, if it is disputed."""
        folder, staged, ours = await _uninterrupted(self._in_background(self._roll_up, day))
        before = await self._totals.of(day.day)
        if ours != before:  # the API may have counted more meanwhile
            before = await self._totals.anew(day.day)
        if ours == before:
            return folder, staged, False
        day.buffer.remove()
        day.buffer = self._buffer(client, day.day, day.window)
        size = PageSize(buckets=60)  # one for all: it learns the API's own limits
        for hour in day.window.cut(SECONDS["1h"]):
            await self._walk(client, day, hour, size)
        folder, staged, ours = await _uninterrupted(self._in_background(self._roll_up, day))
        after = await self._totals.anew(day.day)
        moves = before != after and self._now() < self._lake.final_from(day.day)
        return folder, staged, ours != after and not moves

    def _in_background(self, work: Callable[..., T], *args: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _roll_up(self, day: _Day) -> tuple[Path, Staged, DayTotals]:
        folder = day.held.enter_context(self._lake.staging())
        with closing(self._database.connection(self._all_read)) as con:
            staged = self._feed.stage(con, self._lake, day.day, day.buffer, folder)
            return folder, staged, staged_totals(con, staged, self._feed)

    def _publish(self, folder: Path, staged: Staged, disputed: bool) -> DayPublished:
        with closing(self._database.connection(self._all_read)) as con:
            return self._feed.publish(con, self._lake, staged, folder, disputed=disputed)

    def _report(self, day: _Day, publishing: asyncio.Future[DayPublished]) -> None:
        try:
            self.published[day.day] = published = publishing.result()
        except _FAILURES as error:
            self.failures[day.day] = error
        else:
            day.buffer.remove()
            self._on_progress(Progress(day.day, published.rows[self._feed.raw.name], published))

    async def _next(self, client: Client) -> tuple[_Day, Window | None] | None:
        """The next part to walk, of the day that is being read or of the next one.

        No part where a day begins of which nothing is left to be read.
        """
        async with self._choosing:
            while True:
                if self._current is not None and self._current.day not in self.failures:
                    part = self._current.next_part(self._size.buckets)
                    if part is not None:
                        return self._current, part
                begun = None if self.failures else next(self._to_begin, None)
                if begun is None:
                    self._all_read = True
                    return None
                self._current = await self._begin(client, *begun)
                if self._current is not None and self._current.drained:
                    return self._current, None

    async def _begin(self, client: Client, day: date, window: Window) -> _Day | None:
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
                buffer = self._buffer(client, day, window)
            except OSError as error:
                self.failures[day] = error
                break
            return _Day(day, window, buffer, held, buffer.gaps())
        return None

    def _buffer(self, client: Client, day: date, window: Window) -> PageBuffer:
        folder, schema = self._lake.partial(day, self._feed.endpoint), self._feed.served_rows
        return PageBuffer(folder, client.account, window, self._now(), schema)

    async def _walk(self, client: Client, day: _Day, window: Window, size: PageSize) -> None:
        """Keep every page of a part; returns once it was read whole."""
        feed = self._feed
        with Chunk(day.buffer, window) as chunk:
            async for page in feed.pages(client, window, "1m", size, grouped=True):
                # In this thread: a page takes milliseconds, and a second thread would only fight
                # with this one for the interpreter.
                rows = feed.rows(page, chunk.servings, client.clock(), self._pseudonyms)
                chunk.add([bucket.start_time for bucket in page.buckets], rows)
                self._on_progress(Progress(day.day, day.buffer.rows))
            chunk.finish()
