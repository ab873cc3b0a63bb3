"""`mka1-usage status`: the state of each day, as a calendar, and what to run for the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import date
from itertools import groupby
from typing import Final, Literal, NamedTuple, get_args

from rich.console import Console
from rich.text import Text

from pipeline import messages
from pipeline.lake import engine
from pipeline.lake.completeness import of_coverage
from pipeline.lake.manifest import endpoint_of
from pipeline.lake.schemas import COVERAGE, USAGE, USAGE_DATASETS
from pipeline.lake.snapshot import Damage, Snapshot
from pipeline.messages import count
from pipeline.timeline import (
    CLOCKS_DIFFER,
    DAY,
    SECONDS,
    closed_through,
    day_of,
    day_range,
    iso,
    spans,
)

State = Literal["final", "provisional", "stale", "disputed", "missing"]
STATES: Final[tuple[State, ...]] = get_args(State)

_SHOWN: Final[Mapping[State, tuple[str, str, str]]] = {
    "final": ("#", "green", "final: read after the API's time to restate it"),
    "provisional": ("+", "cyan", "provisional: the API may still restate it"),
    "stale": ("!", "yellow", "stale: to be read again"),
    "disputed": ("x", "magenta", "disputed: its totals differ from the API's own"),
    "missing": (".", "red", "missing: not loaded"),
}
_GRACE: Final = float(DAY)
"""Seconds that a day may stay provisional once it could be final: the daily refresh confirms it."""
_HOURS: Final = DAY // SECONDS["1h"]
_MOST_COMMANDS: Final = 5
_MOST_EMPTY: Final = 2
"""Months in a row without any day that are shown day by day."""


class Endpoint(NamedTuple):
    """How much is loaded of a usage endpoint beside that of conversations."""

    name: str
    first: date
    last: date
    num_days: int
    num_disputed: int

    def __str__(self) -> str:
        words = f"{self.first} to {self.last}"
        if lacking := (self.last - self.first).days + 1 - self.num_days:
            words += f", {count(lacking, 'day')} not loaded"
        if self.num_disputed:
            words += f", {count(self.num_disputed, 'day')} disputed"
        return f"{self.name:<13} {words}"


class Days(NamedTuple):
    """The state of each day, and how far usage is complete (Unix seconds, None for nothing)."""

    states: dict[date, State]
    complete_through: int | None
    """Before this, nothing from the first day that is loaded on is missing or disputed."""
    loaded_through: int | None = None
    """Usage is loaded up to this, whatever is missing before."""
    in_part: frozenset[date] = frozenset()
    """Days with hours that are not loaded, though later ones are."""
    damage: Sequence[Damage] = ()
    """Files of usage that are not what was published: their days are to be read again."""
    endpoints: Sequence[Endpoint] = ()
    """The other usage endpoints of which anything is loaded."""


def states(
    snapshot: Snapshot,
    first: date | None,
    last: date | None,
    now: float,
    *,
    clock: Callable[[], float] = time.time,
) -> Days:
    """The state of usage on each day: from the first that is loaded through today, by default.

    `now` (Unix seconds) may lie in the past, to look as if it were then. What says that it was read
    after `clock`, or is about times after it, is not believed: a clock was ahead when it was read.
    """
    latest = clock() + CLOCKS_DIFFER
    damage = snapshot.damage_of(snapshot.versions, (*USAGE_DATASETS, COVERAGE.name))
    damaged = {one.day for one in damage}
    with closing(engine.connect(snapshot.lake)) as con:
        snapshot.bind_coverage(con)
        rows = con.sql(engine.sql("status_days"), params={"dataset": USAGE["1d"].name}).fetchall()
        known = of_coverage(con)
        endpoints = [
            Endpoint(endpoint_of(name), day_of(first * DAY), day_of(last * DAY), *numbers)
            for name, first, last, *numbers in con.sql(engine.sql("status_endpoints")).fetchall()
        ]
    found: dict[date, State] = {}
    for start, final, provisional, disputed, _, fetched_at in rows:
        if disputed:
            state: State = "disputed"
        elif (fetched_at or 0) > latest or (day_of(start) in damaged and final + provisional):
            state = "stale"
        else:
            state = _state(start, final, provisional, snapshot.lookback_days, now)
        found[day_of(start)] = state
    loaded = [day for day, state in found.items() if state != "missing"]
    today = day_of(closed_through(now) - 1)
    begin = first if first is not None else min(loaded, default=today)
    days = day_range(begin, today if last is None else last)
    holes = {day for hole in known.holes for day in hole.days}
    return Days(
        {day: found.get(day, "missing") for day in days},
        _begun(known.through, latest),
        _begun(known.loaded_through, latest),
        frozenset(day for day in holes if found.get(day) in {"final", "provisional", "stale"}),
        damage,
        endpoints,
    )


def _begun(moment: int | None, latest: float) -> int | None:
    """The moment, but no later than can be: of what is to come nothing is known."""
    return None if moment is None else min(moment, closed_through(latest))


def _state(start: int, final: int, provisional: int, lookback_days: int, now: float) -> State:
    if final == _HOURS:
        return "final"
    if not final + provisional:
        return "missing"
    end = start + DAY
    if final + provisional == _HOURS:
        return "stale" if now > end + lookback_days * DAY + _GRACE else "provisional"
    return "provisional" if now < end else "stale"


def print_status(days: Days, out: Console) -> None:
    """Print the calendar, a line a month, and what to run."""
    out.print(Text("          " + "".join(f"{day:<5}" for day in (1, 6, 11, 16, 21, 26, 31))))
    months: dict[date, dict[int, State]] = {}
    for day, state in days.states.items():
        months.setdefault(day.replace(day=1), {})[day.day] = state
    for empty, group in groupby(months.items(), key=_is_empty):
        lines = list(group)
        if empty and len(lines) > _MOST_EMPTY:
            out.print(Text(f"{lines[0][0]:%Y-%m}   nothing, through {lines[-1][0]:%Y-%m}"))
            continue
        for month, of_month in lines:
            line = Text(f"{month:%Y-%m}   ")
            for number in range(1, 32):
                state_or_none = of_month.get(number)
                glyph, colour, _ = _SHOWN[state_or_none] if state_or_none else (" ", "", "")
                line.append(glyph, style=colour)
            out.print(line)
    counted = Counter(days.states.values())
    out.print()
    for state, (glyph, colour, meaning) in _SHOWN.items():
        if counted[state]:
            row = Text("  ")
            row.append(glyph, style=colour)
            out.print(row.append(f"  {counted[state]:,} {meaning}"))
    if days.complete_through is not None:
        said = f"\nComplete through {iso(days.complete_through)}"
        if days.loaded_through is not None and days.loaded_through > days.complete_through:
            said += f", where the first hole is; loaded through {iso(days.loaded_through)}"
        out.print(said, highlight=False, soft_wrap=True)
    if days.endpoints:
        out.print("\nOther endpoints:")
        for endpoint in days.endpoints:
            out.print(f"  {endpoint}", highlight=False, soft_wrap=True)
    for words in what_to_run(days.states):
        out.print(words, highlight=False, soft_wrap=True)


def _is_empty(month: tuple[date, Mapping[int, State]]) -> bool:
    return set(month[1].values()) == {"missing"}


def what_to_run(days: Mapping[date, State]) -> Sequence[str]:
    """The commands that make every day final or provisional; none where every day is."""
    to_load = [day for day, state in days.items() if state in {"stale", "missing", "disputed"}]
    runs = spans(to_load)
    lines = [f"  {messages.run(first, last)}" for first, last in runs[:_MOST_COMMANDS]]
    if len(runs) > _MOST_COMMANDS:
        lines.append(f"  ... and {count(len(runs) - _MOST_COMMANDS, 'more stretch')} of days")
    what = "stale, missing or disputed" if "disputed" in days.values() else "stale or missing"
    return [f"To load what is {what}:", *lines] if lines else []
