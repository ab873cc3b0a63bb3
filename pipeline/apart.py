"""Records of days that are not loaded stand apart: a month each, under days of 1970.

A listing is read whole, so it brings records of years, and a lake may have a week of usage. A day
that is loaded has its records beside its usage; the others of a month stand together under one day
of 1970, which is no day of the lake, and move once their own day is loaded. Under 1970-01-01
(UNDATED) stands what says that it was created at a time that can't be.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

EARLIEST: Final = date(2020, 1, 1)
"""There was no such API before."""

UNDATED: Final = date(1970, 1, 1)
"""Holds records whose `created_at` is no moment that a record can have."""


def is_apart(day: date) -> bool:
    """Whether a day of files is no day of the calendar: its rows are of other days, or of none."""
    return day.year == UNDATED.year


def apart(day: date) -> date:
    """Where records of a day that is not loaded stand: 1970-01-02 for January 2020, and so on."""
    months = (day.year - EARLIEST.year) * 12 + day.month - EARLIEST.month
    return UNDATED + timedelta(days=1 + months)


def last_of(place: date) -> date:
    """The last day that records of a place may be of; of UNDATED, its own."""
    if place == UNDATED:
        return place
    return (month_of(place) + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def month_of(place: date) -> date:
    """The first day of the month whose records stand in a place that `apart` gave."""
    months = (place - UNDATED).days - 1
    return date(EARLIEST.year + months // 12, EARLIEST.month + months % 12, 1)
