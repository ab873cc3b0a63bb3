"""Periods by name, such as last month: which days of the calendar they are.

A week begins on Monday, as ISO says. A period that goes on has no end: what is asked for it then is
all that there is since it began.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final, Literal, get_args

PeriodName = Literal[
    "today", "yesterday", "this-week", "last-week", "last-7-days", "this-month", "last-month"
]
PERIOD_NAMES: Final[tuple[PeriodName, ...]] = get_args(PeriodName)

PERIOD_WORDS: Final[dict[PeriodName, str]] = {
    "today": "Since midnight.",
    "yesterday": "The day before today.",
    "this-week": "Since Monday.",
    "last-week": "Monday to Sunday of the week before.",
    "last-7-days": "The 7 days before today.",
    "this-month": "Since the first of the month.",
    "last-month": "The whole month before.",
}
"""What each is, for a person."""


def days_of_period(name: PeriodName, today: date) -> tuple[date, date | None]:
    """The first day of a period and the day after its last; None where it goes on."""
    day = timedelta(days=1)
    monday, first = today - today.weekday() * day, today.replace(day=1)
    spans: dict[PeriodName, tuple[date, date | None]] = {
        "today": (today, None),
        "yesterday": (today - day, today),
        "this-week": (monday, None),
        "last-week": (monday - 7 * day, monday),
        "last-7-days": (today - 7 * day, today),
        "this-month": (first, None),
        "last-month": ((first - day).replace(day=1), first),
    }
    return spans[name]
