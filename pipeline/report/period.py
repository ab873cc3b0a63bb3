"""Which local days a report is about.

Belongs here: local days as spans of Unix seconds, and how days are grouped on an axis. A local day
is 23, 24 or 25 hours, or none at all where a country crossed the date line.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pipeline.timeline import Window, day_range

Unit = Literal["hour", "day", "week", "month"]

LONGEST: Final = 3_660
"""Days of a period: ten years."""


@dataclass(frozen=True, slots=True)
class Period:
    """The local days from `first` through `last` in a time zone."""

    first: date
    last: date
    zone: ZoneInfo

    @property
    def length(self) -> int:
        """How many days of the calendar it has."""
        return (self.last - self.first).days + 1

    @property
    def window(self) -> Window:
        """The time it takes."""
        return Window(self.of(self.first).start, self.of(self.last).end)

    @property
    def days(self) -> list[date]:
        """Its days in order, without those that the zone skipped."""
        every = day_range(self.first, self.last)
        return [day for day in every if (span := self.of(day)).start < span.end]

    def of(self, day: date) -> Window:
        """The time that one local day takes."""
        return Window(starts_at(day, self.zone), starts_at(day + timedelta(days=1), self.zone))

    @property
    def before(self) -> Period:
        """As many days just before it."""
        gone = timedelta(days=self.length)
        return Period(self.first - gone, self.last - gone, self.zone)

    @property
    def unit(self) -> Unit:
        """What a bar of its charts stands for: more of them would be too thin on a phone."""
        longest: dict[Unit, int] = {"hour": 3, "day": 92, "week": 7 * 106}
        return next((unit for unit, days in longest.items() if self.length <= days), "month")

    def bar_of(self, shown: datetime) -> datetime:
        """When the bar that holds a moment begins, both as a clock there shows it.

        An hour that comes twice is one bar. The first may begin before the period.
        """
        if self.unit == "hour":
            return shown.replace(minute=0, second=0, tzinfo=None)
        day = shown.replace(hour=0, minute=0, second=0, tzinfo=None)
        if self.unit == "week":
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self.unit == "month" else day


def starts_at(day: date, zone: ZoneInfo) -> int:
    """When a local day begins, in Unix seconds: its first instant, also where midnight is skipped
    or comes twice."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def local_day(seconds: int, zone: ZoneInfo) -> date:
    """The local day that holds `seconds`."""
    return datetime.fromtimestamp(seconds, zone).date()
