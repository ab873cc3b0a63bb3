"""The proof against the API: do our days sum to what the API itself says of them?

Belongs here: asking the API for its own totals and holding ours against them. Does not belong
here: what a difference stops (`pipeline.checks`).

Days that are loaded whole are compared by two cheap questions, 1d and 1h buckets without groups,
of which one page holds 1,440. A day that was still open when it was loaded is compared over the
minutes that were closed by then, by a question of its own: at most 1,440 ungrouped 1m buckets, one
page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

from pipeline.api import Client, PageSize, UsageQuery, get_usage, walk_usage
from pipeline.background import run_async
from pipeline.lake import engine
from pipeline.lake.schemas import MEASURES, USAGE, Measure
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, Width, Window, day_window, spans

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


def compare_days(
    connect: Callable[[], Client], lake: Lake, days: Sequence[date]
) -> list[Comparison]:
    """Compare each loaded day of `days` with the API. Raises ApiError when it can't be asked."""
    windows: dict[date, Window] = {}
    for day in days:
        loaded = lake.loaded("usage_1d", day)
        if loaded is not None:
            windows[day] = loaded.window
    api = run_async(_ask(connect, windows)) if windows else {}
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
        engine.bind(con, {"counted": (dataset, lake.files(dataset.name, days))})
        rows = con.sql(engine.sql("bucket_totals")).fetchall()
    return {start: dict(zip(MEASURES, counts, strict=True)) for start, *counts in rows}


async def _ask(connect: Callable[[], Client], windows: dict[date, Window]) -> dict[Width, ByBucket]:
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
    async with connect() as client:
        for window, width in questions:
            query = UsageQuery(window.start, window.end, width)
            # A bucket served twice: the later serving counts.
            async for page in walk_usage(partial(get_usage, client), query, PageSize(buckets=1440)):
                for bucket in page.buckets:
                    found[width][bucket.start_time] = {
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
