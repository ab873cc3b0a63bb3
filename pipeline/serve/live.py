"""The page that a browser gets: the report with a form and links, or what is wrong in words.

Belongs here: what stands around the report, and nothing of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import FileSystemLoader

from pipeline.messages import count
from pipeline.report.charts import layered, marks
from pipeline.report.choices import LONGEST_ID, MOST, Choices
from pipeline.report.drawing import COLOURS, finished
from pipeline.report.figures import DEFAULT_DAYS, Figures
from pipeline.report.formatting import MONTHS, names_of
from pipeline.report.page import TEMPLATE_FOLDER, TEMPLATES, contents
from pipeline.report.period import Period
from pipeline.report.source import EVERYTHING
from pipeline.serve.page_question import FIELDS, Question
from pipeline.zones import zones

_LENGTHS: Final = (7, DEFAULT_DAYS, 91)
"""Days of the periods that are offered: whole weeks, each with the same weekdays before it."""
_NO_FIELDS: Final[Mapping[str, str]] = {}


_PAGES: Final = TEMPLATES.overlay(loader=FileSystemLoader([Path(__file__).parent, TEMPLATE_FOLDER]))


class Link(NamedTuple):
    """Another period of the same report."""

    words: str
    address: str
    here: bool


class Choice(NamedTuple):
    """An id that can be chosen, and what it is called."""

    id: str
    words: str


class Part(NamedTuple):
    """A field of the form that says what the report is of: a user, a key, a model, a team."""

    kind: str
    words: str
    choices: list[Choice]
    typed: bool
    """Whether there may be more than is offered, so that an id is typed in."""


class Problem(NamedTuple):
    """Why there is no report: a heading, and one sentence that says what to do."""

    heading: str
    message: str


def report(
    found: Figures,
    asked: Question,
    offered: Choices,
    *,
    pulled_at: float | None = None,
    pseudonyms: bool = False,
) -> str:
    """The report of a question, with the form filled in and links to what is near."""
    only = {name: value or "" for name, value in asked.only._asdict().items()}
    fields = {"first": str(found.period.first), "last": str(found.period.last), "tz": asked.tz}
    return _PAGES.get_template("live.html").render(
        **contents(found, pulled_at, lambda kind, id_: _alone(asked, kind, id_)),
        **_form(fields | only, offered, pseudonyms=pseudonyms),
        links_to_periods=_periods(found, asked, offered),
        of_all=replace(asked, only=EVERYTHING).address,
        problem=None,
    )


def problem(
    what: Problem,
    fields: Mapping[str, str] = _NO_FIELDS,
    offered: Choices | None = None,
    *,
    pseudonyms: bool = False,
) -> str:
    """A page that says why there is no report, with the form as it was sent, where it may help."""
    return _PAGES.get_template("live.html").render(
        **_form(fields, offered or Choices(), pseudonyms=pseudonyms),
        asks=offered is not None,
        colours=COLOURS,
        default_days=DEFAULT_DAYS,
        links_to_periods=[],
        problem=what,
    )


def warm_up() -> None:
    """Draw a chart that nobody sees: the first one of a process takes seconds, in which what draws
    it is started. A failure is left to the first page, which says it."""
    with suppress(Exception):
        finished(layered(marks([{}]).mark_point()))


def _form(fields: Mapping[str, str], offered: Choices, *, pseudonyms: bool) -> dict[str, object]:
    return {
        "fields": {name: fields.get(name, "") for name in FIELDS},
        "parts": list(_parts(fields, offered, pseudonyms=pseudonyms)),
        "zones": sorted(zones()),
    }


def _parts(fields: Mapping[str, str], offered: Choices, *, pseudonyms: bool) -> Iterator[Part]:
    """The fields of what the report is of; one of teams where there are any, or one was sent."""
    for kind, words, ids in (
        ("user", "User (pseudonym)" if pseudonyms else "User", offered.users),
        ("key", "API key", offered.keys),
        ("model", "Model", offered.models),
        ("team", "Team", offered.teams),
    ):
        sent = fields.get(kind, "")
        typed = kind == "user" or len(ids) >= MOST
        known = ids if typed or not sent or sent in ids else [sent, *ids]
        called = offered.names.labels(kind, known)
        labels = names_of([called[id_] for id_ in known], kind, 60)
        if known or kind != "team":
            found = [Choice(*one) for one in zip(known, labels, strict=True)]
            yield Part(kind, words, found, typed)


def _alone(asked: Question, kind: str, id_: str) -> str | None:
    """The address of what a row is of, unless it is too long, or would be read as none."""
    return asked.of(kind, id_).address if id_.strip() and len(id_) <= LONGEST_ID else None


def _periods(found: Figures, asked: Question, offered: Choices) -> list[Link]:
    """The last days, the months that are loaded last, and what is before and after."""
    links = [
        _link(asked, found.period, f"Last {count(days, 'day')}", days=days, first=None, last=None)
        for days in _LENGTHS
    ]
    if offered.first is None or offered.last is None:
        return links
    this = offered.last.replace(day=1)
    for first in (this, (this - timedelta(days=1)).replace(day=1)):
        last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        if last >= offered.first:
            words = f"{MONTHS[first.month - 1]} {first.year}"
            links.append(_link(asked, found.period, words, first=first, last=last))
    around = [("Earlier", found.period.before), ("Later", _after(found.period))]
    for words, period in around:
        if period.last >= offered.first and period.first <= offered.last:
            links.append(_link(asked, found.period, words, first=period.first, last=period.last))
    return links


def _after(period: Period) -> Period:
    gone = timedelta(days=period.length)
    return replace(period, first=period.first + gone, last=period.last + gone)


def _link(
    asked: Question,
    shown: Period,
    words: str,
    *,
    first: date | None,
    last: date | None,
    days: int = DEFAULT_DAYS,
) -> Link:
    to = replace(asked, first=first, last=last, days=days)
    return Link(words, to.address, to == asked or (shown.first, shown.last) == (first, last))
