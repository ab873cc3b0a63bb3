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

from pipeline.api import Client, PageSize, UsageQuery, usage_pages
from pipeline.api.usage import MAX_LIMIT
from pipeline.async_runner import run_async
from pipeline.lake import engine
from pipeline.lake.schemas import MEASURES, USAGE, Dataset, Measure
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, Width, Window, day_range, day_window, floor_to, spans
from pipeline.usage.rollup import Staged

Totals = dict[Measure, int]
ByBucket = dict[int, Totals]
"""Totals by the bucket's start, Unix seconds."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A day's totals: what `usage_1d` says, and what the API says of the same window.

    `hours` are the starts of those hours (Unix seconds) of which `usage_1h` says something else
    than the API's own 1h buckets; the hours of a day that was open are not compared.
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


def staged_totals(con: duckdb.DuckDBPyConnection, staged: Staged) -> DayTotals:
    """What the rolled up hours and days say, before they are published."""
    hours, days = (
        _file_totals(con, USAGE[width], [staged.paths[USAGE[width].name]]) for width in ("1h", "1d")
    )
    over = _hours_over(staged.window)
    day = days.get(staged.window.start, _NOTHING) if _is_whole(staged.window) else None
    return DayTotals(_within(hours, over), day)


class TotalsOfApi:
    """The API's own totals of the days of a load, which are asked for a stretch at a time.

    `windows` has the part of each day that is loaded. One event loop only.
    """

    def __init__(self, client: Client, windows: Mapping[date, Window]) -> None:
        self._client = client
        self._windows = windows
        self._known: dict[date, DayTotals] = {}
        self._asking = asyncio.Lock()
        self._size = PageSize(buckets=MAX_LIMIT)  # one for all: it learns the API's own limits

    async def of(self, day: date) -> DayTotals:
        """The totals of a day, which may have been asked for with those of days before it.

        Two requests for 60 days. Raises ApiError.
        """
        async with self._asking:
            if day not in self._known:
                await self._request(self._stretch(day))
            return self._known[day]

    async def anew(self, day: date) -> DayTotals:
        """The totals of a day as the API gives them now. Raises ApiError."""
        async with self._asking:
            await self._request([day])
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

    async def _request(self, days: Sequence[date]) -> None:
        """Ask for days that follow one another, or for one that is not over."""
        first, last = self._windows[days[0]], self._windows[days[-1]]
        over = _hours_over(Window(first.start, last.end))
        hours: ByBucket = {}
        if over.start < over.end:
            hours = await _totals(self._client, over, "1h", self._size)
        of_day = await _totals(self._client, over, "1d", self._size) if _is_whole(last) else None
        for day in days:
            window = self._windows[day]
            self._known[day] = DayTotals(
                _within(hours, _hours_over(window)),
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
        if window.start <= start < window.end and any(totals.values())
    }


def compare_days(
    connect: Callable[[], Client], lake: Lake, days: Sequence[date]
) -> list[Comparison]:
    """Compare each loaded day of `days` with the API. Raises ApiError when it can't be asked."""
    windows: dict[date, Window] = {}
    for day in days:
        loaded = lake.loaded("usage_1d", day)
        if loaded is not None:
            windows[day] = loaded.window
    api = run_async(_api_totals(connect, windows)) if windows else {}
    ours: dict[Width, ByBucket] = {
        width: _our_totals(lake, width, list(windows)) for width in ("1d", "1h")
    }
    return [
        Comparison(
            day,
            window,
            ours["1d"].get(day_window(day).start, _NOTHING),
            _sum(api[_NARROWEST if window != day_window(day) else "1d"], window),
            _differing(ours["1h"], api["1h"], window) if window == day_window(day) else (),
        )
        for day, window in windows.items()
    ]


_NOTHING: Final[Totals] = dict.fromkeys(MEASURES, 0)
_NARROWEST: Final[Width] = "1m"


def _our_totals(lake: Lake, width: Width, days: Sequence[date]) -> ByBucket:
    dataset = USAGE[width]
    with closing(engine.connect()) as con:
        return _file_totals(con, dataset, lake.files(dataset.name, days))


def _file_totals(
    con: duckdb.DuckDBPyConnection, dataset: Dataset, files: Sequence[Path]
) -> ByBucket:
    engine.bind(con, {"counted": (dataset, files)})
    rows = con.sql(engine.sql("bucket_totals")).fetchall()
    return {start: dict(zip(MEASURES, counts, strict=True)) for start, *counts in rows}


async def _api_totals(
    connect: Callable[[], Client], windows: dict[date, Window]
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
            found[width] |= await _totals(client, window, width, size)
    return found


async def _totals(client: Client, window: Window, width: Width, size: PageSize) -> ByBucket:
    """The API's totals of each bucket that it serves; of one served twice, the later serving's."""
    query = UsageQuery(window.start, window.end, width)
    found: ByBucket = {}
    async for page in usage_pages(client, query, size):
        for bucket in page.buckets:
            found[bucket.start_time] = {
                name: sum(getattr(result, name) or 0 for result in bucket.results)
                for name in MEASURES
            }
    return found


def _sum(buckets: ByBucket, window: Window) -> Totals:
    """The totals of the buckets that lie in a window."""
    inside = [totals for start, totals in buckets.items() if window.start <= start < window.end]
    return {name: sum(totals[name] for totals in inside) for name in MEASURES}


def _differing(ours: ByBucket, api: ByBucket, window: Window) -> tuple[int, ...]:
    hours = range(window.start, window.end, SECONDS["1h"])
    return tuple(start for start in hours if ours.get(start, _NOTHING) != api.get(start, _NOTHING))
