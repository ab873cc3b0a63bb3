"""The totals check: do our days sum to what the API itself says of them?

Belongs here: asking the API for its own totals, and comparing ours with them. Days that are loaded
whole are compared by 1d and 1h buckets without groups. Of a day that was still open, the load
compares the hours that were over, and the check the minutes that were closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb

from pipeline.api import Client, PageSize
from pipeline.api.usage import MAX_LIMIT
from pipeline.async_runner import run_async
from pipeline.lake import engine
from pipeline.lake.manifest import manifest_of
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, Width, Window, day_range, day_window, floor_to, spans
from pipeline.usage.feed import CONVERSATIONS, ByBucket, Feed, Totals, summed


@dataclass(frozen=True, slots=True)
class Comparison:
    """A day's totals: what the table of days says, and what the API says of the same window.

    `hours` are the starts of those hours (Unix seconds) of which the table of hours says something
    else than the API's own 1h buckets; the hours of a day that was open are not compared.
    """

    day: date
    window: Window
    ours: Totals
    api: Totals
    hours: tuple[int, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every measure is the same."""
        return self.ours == self.api and not self.hours


@dataclass(frozen=True, slots=True)
class DayTotals:
    """What one side says was used on a day, all users and keys together.

    `hours` has the totals of the hours that are over, by their start in Unix seconds, those without
    usage left out. `day` are those of the whole day; None for a day that is not over.
    """

    hours: ByBucket
    day: Totals | None


def totals_of(
    con: duckdb.DuckDBPyConnection, feed: Feed, window: Window, hours: Path, days: Path
) -> DayTotals:
    """What the files of hours and days say of a day, of which `window` is loaded."""
    by_hour = feed.totals(con, "1h", [hours])
    of_day = feed.totals(con, "1d", [days]) if _is_whole(window) else None
    return DayTotals(
        _within(by_hour, _hours_over(window)),
        None if of_day is None else of_day.get(window.start, _NOTHING),
    )


class TotalsOfApi:
    """The API's own totals of the days of a load, which are asked for a stretch at a time.

    `windows` has the part of each day that is loaded, `hours` the totals of all hours of these days
    that are over, where they are known already. One event loop only.
    """

    def __init__(
        self,
        client: Client,
        windows: Mapping[date, Window],
        feed: Feed,
        hours: ByBucket | None = None,
    ) -> None:
        self._client = client
        self._feed = feed
        self._windows = windows
        self._hours = hours
        self._known: dict[date, DayTotals] = {}
        self._asking = asyncio.Lock()
        self._size = PageSize(buckets=MAX_LIMIT)  # one for all: it learns the API's own limits

    async def of(self, day: date) -> DayTotals:
        """The totals of a day, which may have been asked for with those of days before it.

        Two requests for 60 days. Raises ApiError.
        """
        async with self._asking:
            if day not in self._known:
                await self._request(self._stretch(day), self._hours)
            return self._known[day]

    async def anew(self, day: date) -> DayTotals:
        """The totals of a day as the API gives them now. Raises ApiError."""
        async with self._asking:
            await self._request([day], None)
            return self._known[day]

    def _stretch(self, day: date) -> list[date]:
        """The day, and the days after it that one page of hours holds with it."""
        if not _is_whole(self._windows[day]):
            return [day]
        stretch = [day]
        for following in day_range(day + timedelta(days=1), day + timedelta(days=_STRETCH - 1)):
            window = self._windows.get(following)
            if window is None or not _is_whole(window) or following in self._known:
                break
            stretch.append(following)
        return stretch

    async def _request(self, days: Sequence[date], hours: ByBucket | None) -> None:
        """Ask for days that follow one another, or for one that is not over."""
        first, last = self._windows[days[0]], self._windows[days[-1]]
        over = _hours_over(Window(first.start, last.end))
        if hours is None and over.start < over.end:
            hours = await _totals(self._client, self._feed, over, "1h", self._size)
        of_day: ByBucket | None = None
        if _is_whole(last):
            of_day = await _totals(self._client, self._feed, over, "1d", self._size)
        for day in days:
            window = self._windows[day]
            self._known[day] = DayTotals(
                _within(hours or {}, _hours_over(window)),
                None if of_day is None else of_day.get(window.start, _NOTHING),
            )


_STRETCH: Final = MAX_LIMIT // 24
"""Days whose hours one page holds."""


def _is_whole(window: Window) -> bool:
    return window.end - window.start == SECONDS["1d"]


def _hours_over(window: Window) -> Window:
    """The hours that lie whole in a window that begins on an hour's edge."""
    return Window(window.start, max(window.start, floor_to(window.end, "1h")))


def _within(buckets: ByBucket, window: Window) -> ByBucket:
    """The buckets in a window that have usage: an API may leave the others out."""
    return {
        start: totals
        for start, totals in buckets.items()
        if window.start <= start < window.end and totals
    }


def compare_days(
    connect: Callable[[], Client], lake: Lake, days: Sequence[date], feed: Feed = CONVERSATIONS
) -> list[Comparison]:
    """Compare each loaded day of `days` with the API. Raises ApiError when it can't be asked."""
    windows: dict[date, Window] = {}
    for day in days:
        loaded = feed.loaded(lake, day)
        if loaded is not None:
            windows[day] = loaded
    api = run_async(_api_totals(connect, feed, windows)) if windows else {}
    ours: dict[Width, ByBucket] = {
        width: _our_totals(lake, feed, width, list(windows)) for width in ("1d", "1h")
    }
    hourly = feed.tables["1h"].name  # which old days may not keep
    by_hour = {
        day
        for day, window in windows.items()
        if window == day_window(day) and hourly not in manifest_of(lake.version(day)).dropped
    }
    return [
        Comparison(
            day,
            window,
            ours["1d"].get(day_window(day).start, _NOTHING),
            _sum(api[_NARROWEST if window != day_window(day) else "1d"], window),
            _differing(ours["1h"], api["1h"], window) if day in by_hour else (),
        )
        for day, window in windows.items()
    ]


_NOTHING: Final[Totals] = {}
_NARROWEST: Final[Width] = "1m"


def _our_totals(lake: Lake, feed: Feed, width: Width, days: Sequence[date]) -> ByBucket:
    with closing(engine.connect(lake)) as con:
        return feed.totals(con, width, lake.files(feed.tables[width].name, days))


async def _api_totals(
    connect: Callable[[], Client], feed: Feed, windows: dict[date, Window]
) -> dict[Width, ByBucket]:
    whole = [day for day, window in windows.items() if window == day_window(day)]
    stretches = [
        Window(day_window(first).start, day_window(last).end) for first, last in spans(whole)
    ]
    questions: list[tuple[Window, Width]] = [
        *((window, "1d") for window in stretches),
        *((window, "1h") for window in stretches),
        *((windows[day], _NARROWEST) for day in windows if day not in whole),
    ]
    found: dict[Width, ByBucket] = {"1d": {}, "1h": {}, "1m": {}}
    size = PageSize(buckets=MAX_LIMIT)
    async with connect() as client:
        for window, width in questions:
            found[width] |= await _totals(client, feed, window, width, size)
    return found


async def _totals(
    client: Client, feed: Feed, window: Window, width: Width, size: PageSize
) -> ByBucket:
    """The API's totals of each bucket that it serves; of one served twice, the later serving's."""
    found: ByBucket = {}
    async for page in feed.pages(client, window, width, size, "nothing"):
        for bucket in page.buckets:
            found[bucket.start_time] = summed(feed.measures(one) for one in bucket.results)
    return found


def _sum(buckets: ByBucket, window: Window) -> Totals:
    """The totals of the buckets that lie in a window."""
    return summed(totals for start, totals in buckets.items() if window.start <= start < window.end)


def _differing(ours: ByBucket, api: ByBucket, window: Window) -> tuple[int, ...]:
    hours = range(window.start, window.end, SECONDS["1h"])
    return tuple(start for start in hours if ours.get(start, _NOTHING) != api.get(start, _NOTHING))
