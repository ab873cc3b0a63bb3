"""From a day that was read to one that is published: is it what the API's own totals say?

Belongs here: what is done where it is not. docs/design.md, "Exactness and the totals check".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from pipeline.api import PageSize
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, Window
from pipeline.usage.changed_hours import ChangedHours, Kept, keep
from pipeline.usage.feed import Feed
from pipeline.usage.page_buffer import PageBuffer
from pipeline.usage.rollup import DayPublished, Staged
from pipeline.usage.totals_check import DayTotals, TotalsOfApi, totals_of
from pipeline.usage.worker import Worker


@dataclass(slots=True)
class DayRead:
    """A day that is being read: which of its minutes have been handed out, and its pages so far."""

    day: date
    window: Window
    buffer: PageBuffer
    held: ExitStack
    """Its lock, and its unfinished files."""
    to_ask: list[Window]
    size: PageSize
    kept: Kept | None = None
    open_parts: int = 0

    def next_part(self) -> Window | None:
        """The next minutes to ask for; None once all have been handed out."""
        if not self.to_ask:
            return None
        gap = self.to_ask.pop(0)
        part = Window(gap.start, min(gap.start + self.size.buckets * SECONDS["1m"], gap.end))
        if part.end < gap.end:
            self.to_ask.insert(0, Window(part.end, gap.end))
        self.open_parts += 1
        return part

    @property
    def drained(self) -> bool:
        """Whether every minute has been asked for and answered."""
        return not self.to_ask and not self.open_parts


@dataclass(frozen=True, slots=True)
class _RolledUp:
    """A day that is not published yet: where its files are, and what they say of it."""

    folder: Path
    staged: Staged
    totals: DayTotals


class Settlement:
    """Rolls days up, compares them with the API's totals, and publishes them.

    `read_anew` asks for every minute of a day again, whatever is kept of it so far.
    """

    def __init__(
        self,
        lake: Lake,
        feed: Feed,
        worker: Worker,
        totals: TotalsOfApi,
        changed: ChangedHours,
        read_anew: Callable[[DayRead], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._lake = lake
        self._feed = feed
        self._worker = worker
        self._totals = totals
        self._changed = changed
        self._read_anew = read_anew
        self._now = now

    async def publishing(self, day: DayRead) -> asyncio.Future[DayPublished]:
        """Begin to publish a day that was read to its end, or to note that it is still the same."""
        if day.kept is not None and day.kept.whole:
            ours = await self._worker.do(self._standing_totals, day.kept)
            if await self._agrees(day.day, ours):
                return self._worker.begin(self._confirm, day.kept)
        else:
            rolled = await self._worker.do(self._roll_up, day)
            if await self._agrees(day.day, rolled.totals) and await self._same_users(day, rolled):
                return self._worker.begin(self._publish, rolled, disputed=False)
        return await self._anew(day, await self._totals.of(day.day))

    async def _anew(self, day: DayRead, before: DayTotals) -> asyncio.Future[DayPublished]:
        """Publish a day once all of it was read again; disputed, if it still differs."""
        await self._read_anew(day)
        rolled = await self._worker.do(self._roll_up, day)
        after = await self._totals.anew(day.day)
        moves = before != after and self._now() < self._lake.final_from(day.day)
        disputed = rolled.totals != after and not moves
        return self._worker.begin(self._publish, rolled, disputed=disputed)

    async def _agrees(self, day: date, ours: DayTotals) -> bool:
        # The API may have counted more since they were asked for.
        return ours == await self._totals.of(day) or ours == await self._totals.anew(day)

    async def _same_users(self, day: DayRead, rolled: _RolledUp) -> bool:
        """Whether a day that was compared by user and key is now what the API said of it."""
        if day.kept is None or day.kept.by != "usage":
            return True
        path = rolled.staged.paths[self._feed.tables["1d"].name]
        return await asyncio.to_thread(self._changed.same_users, day.day, path)

    def _roll_up(self, con: duckdb.DuckDBPyConnection, day: DayRead) -> _RolledUp:
        folder = day.held.enter_context(self._lake.staging())
        if day.kept is not None:
            keep(day.buffer, self._feed, day.kept)
        staged = self._feed.stage(con, self._lake, day.day, day.buffer, folder)
        hours, days = (staged.paths[self._feed.tables[width].name] for width in ("1h", "1d"))
        return _RolledUp(folder, staged, totals_of(con, self._feed, staged.window, hours, days))

    def _standing_totals(self, con: duckdb.DuckDBPyConnection, kept: Kept) -> DayTotals:
        hours, days = (kept.standing.file(self._feed, width) for width in ("1h", "1d"))
        return totals_of(con, self._feed, kept.window, hours, days)

    def _publish(
        self, con: duckdb.DuckDBPyConnection, rolled: _RolledUp, *, disputed: bool
    ) -> DayPublished:
        return self._feed.publish(con, self._lake, rolled.staged, rolled.folder, disputed=disputed)

    def _confirm(self, con: duckdb.DuckDBPyConnection, kept: Kept) -> DayPublished:
        return self._feed.confirm(con, self._lake, kept.standing.day, kept.at, kept.by)
