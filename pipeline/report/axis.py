"""The local hours of a period, of the one before it, and the bars of a chart that they are in.

Belongs here: the places of hours and bars, without a number of any measure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa

from pipeline.lake.buckets import buckets
from pipeline.report.period import Period
from pipeline.report.source import WHOLE, Knowledge, Known
from pipeline.timeline import DAY, Window

_EPOCH: Final = date(1970, 1, 1).toordinal()


class Hour(NamedTuple):
    """A local hour, what a clock shows as it begins, and when the bar that it is in begins."""

    span: Window
    shown: datetime
    bar: datetime


class Place(NamedTuple):
    """Where a bar stands: the number of its first hour, `[first, end)` as a clock there shows it,
    and what is known of it."""

    unit: int
    first: datetime
    end: datetime
    known: Knowledge


@dataclass(frozen=True, slots=True)
class Axis:
    """The local hours of a period; `spans` are all hours, of the period before and earlier too."""

    period: Period
    spans: list[Window]
    hours: list[Hour]

    def slots(self, paired: Collection[date]) -> pa.Table:
        """The input `slots` of the queries; `paired` are the days of the period that are compared.

        Earlier than the period before is the UTC day that the period begins in.
        """
        period = self.period
        before, start = period.before.window.start, period.window.start
        gone = timedelta(days=period.length)
        compared = {*paired, *(day - gone for day in paired)}
        slots: list[dict[str, object]] = []
        for span in self.spans:
            shown = datetime.fromtimestamp(span.start, period.zone)
            name, bar = "earlier", shown
            if span.start >= before:
                name, bar = "before", period.bar_of(shown)
            if span.start >= start:
                name = "this"
            slots.append(
                {
                    "slot": span.start,
                    "slot_end": span.end,
                    "period": name,
                    "paired": shown.date() in compared,
                    "unit": hour_number(bar),
                    "weekday": shown.isoweekday(),
                    "hour": shown.hour,
                }
            )
        return pa.Table.from_pylist(slots)

    def parts(self, paired: Collection[date], number: int) -> Iterator[tuple[Window, pa.Table]]:
        """The slots in about so many parts, each of whole bars of a period, and their windows."""
        slots = self.slots(paired)
        bars = zip(*(slots.column(name).to_pylist() for name in ("period", "unit")), strict=True)
        sizes = [len(list(group)) for _, group in groupby(bars)]
        first = size = 0
        for place, of_bar in enumerate(sizes, start=1):
            size += of_bar
            if size * number >= len(slots) or place == len(sizes):
                spans = self.spans[first : first + size]
                yield Window(spans[0].start, spans[-1].end), slots.slice(first, size)
                first, size = first + size, 0

    def places(self, known: Known) -> list[Place]:
        """The bars of the period in order."""
        found: list[Place] = []
        by_bar = attrgetter("bar")
        for begins, group in groupby(sorted(self.hours, key=by_bar), key=by_bar):
            members = list(group)
            found.append(
                Place(
                    unit=hour_number(begins),
                    first=max(begins, datetime.combine(self.period.first, time())),
                    end=self._end_of(members[-1].shown),
                    known=known.knowledge(*(one.span for one in members)),
                )
            )
        return found

    def before(self, place: Place, paired: Collection[date]) -> int | None:
        """The number of the bar that a bar is compared with; None where it is with none.

        That is the same weekday of the period before: beside another one a day says nothing.
        """
        period = self.period
        if period.unit != "day" or period.length % 7 or place.first.date() not in paired:
            return None
        return place.unit - 24 * period.length

    def _end_of(self, last: datetime) -> datetime:
        """When a bar ends whose last hour begins at `last`."""
        hour = last.replace(minute=0, second=0, tzinfo=None)
        if self.period.unit == "hour":
            return hour + timedelta(hours=1)
        return hour.replace(hour=0) + timedelta(days=1)


def axis_of(con: duckdb.DuckDBPyConnection, period: Period) -> Axis:
    """The hours of a period, those of the period before, and those of the UTC day before it."""
    start = period.window.start
    # Who is new on the first day may have come earlier in that UTC day, which no other has.
    whole = Window(min(period.before.window.start, start // DAY * DAY), period.window.end)
    spans = buckets(con, whole, "1h", period.zone.key)
    shown = [
        (span, datetime.fromtimestamp(span.start, period.zone))
        for span in spans
        if span.start >= start
    ]
    return Axis(period, spans, [Hour(span, clock, period.bar_of(clock)) for span, clock in shown])


def hour_number(shown: datetime) -> int:
    """The number of an hour on a clock that is never moved, since 1970."""
    return (shown.toordinal() - _EPOCH) * 24 + shown.hour


def days_of(period: Period, known: Known) -> dict[date, Knowledge]:
    """What is known of each local day of a period and of the one before it."""
    return {
        day: known.knowledge(one.of(day)) for one in (period.before, period) for day in one.days
    }


def paired_days(period: Period, days: Mapping[date, Knowledge]) -> set[date]:
    """The days of the period that are compared: loaded whole, as is their day in the one before.

    None where that is less than half of them: a part would pass for the whole.
    """
    gone = timedelta(days=period.length)
    pairs = {day for day in period.days if {days[day], days.get(day - gone)} <= WHOLE}
    return pairs if 2 * len(pairs) >= len(period.days) else set()
