"""The proof against the API: do our days sum to what the API itself says of them?

Belongs here: asking the API for its own totals and holding ours against them. Does not belong
here: what a difference stops (`pipeline.checks`).

Days that are loaded whole are compared by one cheap question, 1d buckets without groups, of which
one page holds 1,440. A day that was still open when it was loaded is compared over the minutes
that were closed by then, by a question of its own: at most 1,440 ungrouped 1m buckets, one page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import partial

from pipeline.api import Client, PageSize, UsageQuery, get_usage, walk_usage
from pipeline.background import run_async
from pipeline.lake import engine
from pipeline.lake.schemas import MEASURES, USAGE, Measure
from pipeline.lake.store import Lake
from pipeline.timeline import Width, Window, day_of, day_window, spans

Totals = dict[Measure, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A day's totals: what `usage_1d` says, and what the API says of the same window."""

    day: date
    window: Window
    ours: Totals
    api: Totals

    @property
    def agrees(self) -> bool:
        """Whether every measure is the same."""
        return self.ours == self.api


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
    ours = _our_totals(lake, list(windows))
    nothing: Totals = dict.fromkeys(MEASURES, 0)
    return [
        Comparison(day, window, ours.get(day, nothing), api.get(day, nothing))
        for day, window in windows.items()
    ]


def _our_totals(lake: Lake, days: Sequence[date]) -> dict[date, Totals]:
    with closing(engine.connect()) as con:
        engine.bind(con, {"counted": (USAGE["1d"], lake.files("usage_1d", days))})
        rows = con.sql(engine.sql("day_totals")).fetchall()
    return {day_of(start): dict(zip(MEASURES, counts, strict=True)) for start, *counts in rows}


async def _ask(connect: Callable[[], Client], windows: dict[date, Window]) -> dict[date, Totals]:
    whole = [day for day, window in windows.items() if window == day_window(day)]
    questions: list[tuple[Window, Width]] = [
        (Window(day_window(first).start, day_window(last).end), "1d")
        for first, last in spans(whole)
    ]
    questions += [(windows[day], "1m") for day in windows if day not in whole]
    totals: dict[date, Totals] = {}
    async with connect() as client:
        for window, width in questions:
            query = UsageQuery(window.start, window.end, width)
            buckets: dict[int, Totals] = {}
            # A bucket served twice: the later serving counts, so sum only once all are there.
            async for page in walk_usage(partial(get_usage, client), query, PageSize(buckets=1440)):
                for bucket in page.buckets:
                    buckets[bucket.start_time] = {
                        name: sum(getattr(result, name) or 0 for result in bucket.results)
                        for name in MEASURES
                    }
            for start, counted in buckets.items():
                of_day = totals.setdefault(day_of(start), dict.fromkeys(MEASURES, 0))
                for name in MEASURES:
                    of_day[name] += counted[name]
    return totals
