"""Days, windows and bucket widths: all date arithmetic.

All times are whole Unix seconds, UTC. All windows are half-open: `[start, end)`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final, Literal, get_args

from pipeline.apart import UNDATED, is_apart, month_of

Width = Literal["1m", "1h", "1d"]
"""What the API has, and there are tables of."""
AnyWidth = Literal["1m", "5m", "15m", "1h", "6h", "1d", "1w", "1mo"]
"""What can be counted from those; a week begins on Monday."""

WIDTHS: Final[tuple[Width, ...]] = get_args(Width)
ANY_WIDTHS: Final[tuple[AnyWidth, ...]] = get_args(AnyWidth)
SECONDS: Final[dict[Width, int]] = {"1m": 60, "1h": 3_600, "1d": 86_400}
DAY: Final = SECONDS["1d"]

CLOCKS_DIFFER: Final = 60.0
"""Seconds after now that a moment may lie: machines that share a lake have clocks of their own."""

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LAST_SECOND: Final = 253_402_300_800  # 10000-01-01T00:00:00Z: no ISO date lies beyond it


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span of time `[start, end)` in Unix seconds, UTC; it may be empty."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(
                f"the window ends before it starts: start {iso(self.start)}, end {iso(self.end)}"
            )

    def __str__(self) -> str:
        return f"[{iso(self.start)}, {iso(self.end)})"

    @property
    def days(self) -> list[date]:
        """The UTC days that the window touches, in order; none when it is empty."""
        if self.start == self.end:
            return []
        return list(day_range(day_of(self.start), day_of(self.end - 1)))

    def among(self, days: Sequence[date]) -> Sequence[date]:
        """Those of `days`, which are in order, that the window touches."""
        if self.start == self.end:
            return []
        first = bisect_left(days, day_of(self.start))
        return days[first : bisect_right(days, day_of(self.end - 1), first)]

    def lacks(self, days: Sequence[date]) -> list[tuple[date, date]]:
        """Runs of days that the window touches and `days`, which are in order, don't have.

        As (first, last), in order. It takes no longer for years than for days.
        """
        if self.start == self.end:
            return []
        first, last = day_of(self.start).toordinal(), day_of(self.end - 1).toordinal()
        there = [day.toordinal() for day in self.among(days)]
        runs = pairwise([first - 1, *there, last + 1])
        return [
            (date.fromordinal(before + 1), date.fromordinal(after - 1))
            for before, after in runs
            if before + 1 < after
        ]

    def cut(self, seconds: int) -> Iterator[Window]:
        """The window in parts of so many seconds, the last one shorter; none when it is empty."""
        for start in range(self.start, self.end, seconds):
            yield Window(start, min(start + seconds, self.end))

    def without(self, parts: Iterable[Window]) -> list[Window]:
        """What is left of the window without some parts of it, in order."""
        left: list[Window] = []
        at = self.start
        for part in sorted(parts):
            if part.start > at:
                left.append(Window(at, min(part.start, self.end)))
            at = max(at, part.end)
        if at < self.end:
            left.append(Window(at, self.end))
        return left

    def widened(self, width: Width) -> Window:
        """The smallest window on bucket edges of `width` that holds this one."""
        return Window(floor_to(self.start, width), -floor_to(-self.end, width))


def floor_to(seconds: int, width: Width) -> int:
    """The edge of the `width` bucket that holds `seconds` (floor, before 1970 too)."""
    return seconds // SECONDS[width] * SECONDS[width]


def closed_through(now: float) -> int:
    """The end of the last closed minute at `now`: a bucket that is still open is never final."""
    return floor_to(int(now // 1), "1m")


def day_of(seconds: int) -> date:
    """The UTC day that holds `seconds`."""
    return date.fromordinal(_EPOCH_DAY + seconds // DAY)


def day_window(day: date) -> Window:
    """The 24 hours of a UTC day."""
    start = (day.toordinal() - _EPOCH_DAY) * DAY
    return Window(start, start + DAY)


def day_range(first: date, last: date) -> Iterator[date]:
    """Every day from `first` through `last`, both included."""
    for ordinal in range(first.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(ordinal)


def trailing_days(today: date, lookback_days: int) -> tuple[date, date]:
    """First and last day of the window that is asked for again: `lookback_days` and `today`."""
    return today - timedelta(days=lookback_days), today


def spans(days: Iterable[date]) -> list[tuple[date, date]]:
    """Runs of consecutive days as (first, last), for messages: no list of 400 dates."""
    found: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if found and day - found[-1][1] == timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def in_words(days: Iterable[date]) -> str:
    """`2024-01-01, 2024-01-05 to 2024-01-09`; `none` where there are none.

    What stands apart (`pipeline.apart`) comes last: `days of 2023-05 that are not loaded`.
    """
    asked = set(days)
    places = sorted(filter(is_apart, asked))
    words = [f"{a}" if a == b else f"{a} to {b}" for a, b in spans(asked.difference(places))]
    if months := [f"{month_of(place):%Y-%m}" for place in places if place != UNDATED]:
        words.append(f"days of {', '.join(months)} that are not loaded")
    if UNDATED in places:
        words.append("no known day")
    return ", ".join(words) or "none"


def iso(seconds: int) -> str:
    """`2024-01-01T00:00:00Z`, as `parse_time` reads it; the bare number if no date holds it."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return str(seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str, zone: tzinfo = UTC) -> int:
    """Unix seconds from an ISO date, an ISO time or Unix seconds.

    A time without an offset is one of `zone`'s; where its clock shows it twice, the first. Raises
    ValueError, in words for a user, for anything else and for fractions of a second.
    """
    asked = text.strip()
    if re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", asked):
        raise ValueError(
            f"{text!r} could be a date or Unix seconds: write a date as "
            f"{asked[:4]}-{asked[4:6]}-{asked[6:]}"
        )
    if re.fullmatch(r"[+-]?[0-9]{1,20}", asked):
        seconds = int(asked)
    else:
        try:
            moment = datetime.fromisoformat(asked)
        except ValueError:
            raise ValueError(
                f"{text!r} is not a time: write an ISO date (2024-01-31), "
                "an ISO time (2024-01-31T18:00:00Z) or Unix seconds (1706724000)"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        # Python drops what is smaller than a microsecond without a word.
        if not moment.timestamp().is_integer() or re.search(r"[.,]\d*[1-9]", asked):
            raise ValueError(f"{text!r} has a fraction of a second: times are whole seconds")
        seconds = int(moment.timestamp())
    if not 0 <= seconds < _LAST_SECOND:
        raise ValueError(f"{text!r} is out of range: times lie between 1970 and 9999")
    return seconds
