"""The page's query string as a question: which days, in which zone, of whom and of what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Final
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from pipeline.report.figures import DEFAULT_DAYS
from pipeline.report.period import LONGEST
from pipeline.report.source import EVERYTHING, Only
from pipeline.zones import zone

FIELDS: Final = ("first", "last", "days", "tz", *Only._fields)
"""The parameters, in the order of the form."""
_DAYS: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_PLACE: Final = {"first": "From", "last": "Through"}


class QuestionError(ValueError):
    """What was asked is no question. The message says what it has to be."""


@dataclass(frozen=True, slots=True)
class NoQuestion:
    """What was sent instead of a question, by the form's fields, and why it is none."""

    sent: tuple[tuple[str, str], ...]
    why: str

    @property
    def fields(self) -> dict[str, str]:
        """What the form is filled with, to be put right."""
        return dict(self.sent)


@dataclass(frozen=True, slots=True)
class Question:
    """Local days from `first` through `last`: so many `days` where `first` is None, and through the
    last complete one where `last` is."""

    first: date | None = None
    last: date | None = None
    days: int = DEFAULT_DAYS
    tz: str = "UTC"
    only: Only = EVERYTHING

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of its days."""
        return zone(self.tz)

    @property
    def fields(self) -> dict[str, str]:
        """Its parameters, without what is there by default."""
        given = {"first": self.first, "last": self.last, **self.only._asdict()}
        values = {name: str(value) for name, value in given.items() if value is not None}
        if self.days != DEFAULT_DAYS:
            values["days"] = str(self.days)
        if self.tz != "UTC":
            values["tz"] = self.tz
        return {name: values[name] for name in FIELDS if name in values}

    @property
    def address(self) -> str:
        """Where its page is."""
        return f"/?{urlencode(self.fields)}" if self.fields else "/"

    def of(self, kind: str, id_: str | None) -> Question:
        """The same question of a user, a key, a model or a team; None: of all of them."""
        return replace(self, only=self.only._replace(**{kind: id_}))


def read(raw: bytes) -> Question | NoQuestion:
    """The question of a query string, or what is wrong with it."""
    try:
        return _parse(raw)
    except QuestionError as error:
        sent = parse_qsl(raw.decode("latin-1"), errors="replace")
        kept = tuple((name, value) for name, value in sent if name in FIELDS)
        return NoQuestion(kept, str(error))


def _parse(raw: bytes) -> Question:
    """The question of a query string. QuestionError, in one line, for what is none.

    An empty value is as good as none: a form sends its empty fields.
    """
    try:
        sent = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise QuestionError("the address is not percent-encoded UTF-8") from None
    given: dict[str, str] = {}
    for name, value in sent:
        if name not in FIELDS:
            raise QuestionError(f"unknown parameter {name!r}: it takes {', '.join(FIELDS)}")
        if name in given:
            raise QuestionError(f"{name} is given twice")
        given[name] = value
    first, last = _day(given, "first"), _day(given, "last")
    if first and last and last < first:
        raise QuestionError(f"the period ends before it begins: {first} to {last}")
    days = given.get("days", "").strip() or str(DEFAULT_DAYS)
    if not _DAYS.fullmatch(days) or not 1 <= int(days) <= LONGEST:
        raise QuestionError(f"days is {days!r}: it must be a number from 1 to {LONGEST:,}")
    if first and given.get("days", "").strip():
        if last:
            raise QuestionError("days is given beside first and last: leave one of the three out")
        last = date.fromordinal(min(first.toordinal() + int(days) - 1, date.max.toordinal()))
        days = str(DEFAULT_DAYS)
    tz = given.get("tz", "").strip() or "UTC"
    try:
        zone(tz)
    except ValueError as error:
        raise QuestionError(str(error)) from None
    only = Only(**{name: given[name] for name in Only._fields if given.get(name, "").strip()})
    return Question(first, last, int(days), tz, only)


def _day(given: Mapping[str, str], name: str) -> date | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        if len(text) != len("2024-01-31"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise QuestionError(
            f"{_PLACE[name]} ({name}) is {text!r}: it must be a day such as 2024-01-31"
        ) from None
