"""What a report says, part by part: a heading, the finding in words, the chart, its tables.

Belongs here: the sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

from pipeline.lake.schemas import CLASSES, Class
from pipeline.messages import be, count, noun
from pipeline.report import charts, tables
from pipeline.report.charts import Chart
from pipeline.report.drawing import Frame
from pipeline.report.figures import MEASURES, Bar, Counts, Figures, Knowledge, Measure, Ranking
from pipeline.report.formatting import (
    IN_SHORT,
    NAMES,
    WEEKDAYS,
    Change,
    change,
    moment,
    name_of,
    number,
    rounded,
    share,
    span,
    stretches,
)
from pipeline.report.period import Unit
from pipeline.report.tables import Table

_LONGEST_NAME: Final = 40
"""Characters of an id in a sentence."""
_NOUNS: Final[dict[Measure, tuple[str, str]]] = {
    "operations": ("operation", ""),
    "items": ("item", " added"),
    "conversations": ("conversation", " created"),
}
_CLASSES: Final[dict[Class, str]] = {
    "match": "no difference",
    "late": "the day may still change",
    "undated": "items without a response, which count for when they were first seen",
    "deleted": "something is gone that had been there",
    "unexplained": "one of the two sides is wrong",
    "not derivable": "operations, which leave no trace, and keys or users that cannot be seen",
}
_MEANINGS: Final[dict[Knowledge, str]] = {
    "provisional": "the API may still restate what it has reported",
    "in part": "only what is loaded counts",
    "disputed": "the totals differ from the API's own; it is loaded again until they agree",
    "missing": "unknown, not zero, and in no total",
}
"""What has to be known of days that are not final."""


class Key(NamedTuple):
    """What a way of drawing means; `sign` is its class in the stylesheet."""

    sign: str
    words: str


class Tile(NamedTuple):
    """A number to begin with."""

    role: str
    name: str
    value: str
    change: Change | None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report. `name` is its anchor, and its picture's file name."""

    name: str
    heading: str
    finding: str
    tables: Sequence[Table] = ()
    chart: Callable[[Frame], Chart] | None = None
    keys: Sequence[Key] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class PageContent:
    """All that a report says, in order."""

    title: str
    about: str
    lead: str
    warnings: Sequence[str]
    tiles: Sequence[Tile]
    compared: str
    sections: Sequence[Section] = field(repr=False)


def page_content(figures: Figures) -> PageContent:
    """The report in words."""
    period = figures.period
    return PageContent(
        title=span(period.first, period.last),
        about=(
            f"{count(period.length, 'day')} in {period.zone.key}, complete through "
            f"{moment(figures.through, period.zone)}"
        ),
        lead=_lead(figures),
        warnings=_warnings(figures),
        tiles=_tiles(figures),
        compared=_compared(figures),
        sections=[
            _over_time(figures),
            _ranking(figures, figures.users, "user"),
            _ranking(figures, figures.keys, "key"),
            _week(figures),
            _active(figures),
            _coverage(figures),
            _reconciliation(figures),
        ],
    )


def _measures(counts: Counts) -> str:
    said: list[str] = []
    for name, (counted, verb) in _NOUNS.items():
        value = counts.of(name)
        much = (
            f"an unknown number of {noun(0, counted)}" if value is None else count(value, counted)
        )
        said.append(f"{much}{verb}")
    return f"{said[0]}, {said[1]} and {said[2]}"


def _lead(figures: Figures) -> str:
    totals = figures.totals
    if not figures.users.ids:
        return "There is no usage in what is loaded of this period."
    who = f"{count(totals.users, 'user')} with {count(totals.keys, 'API key')}"
    return f"{who} made {_measures(totals.counts)}."


def _warnings(figures: Figures) -> list[str]:
    said: list[str] = []
    for known, meaning in _MEANINGS.items():
        days = figures.known(known)
        if days:
            said.append(
                f"{count(len(days), 'day')} {be(len(days))} {IN_SHORT[known]}, "
                f"{stretches(days)}: {meaning}."
            )
    return said


def _compared(figures: Figures) -> str:
    before, found = figures.period.before, figures.compared
    when = span(before.first, before.last)
    if found is None:
        loaded = sum(figures.days[day] in {"final", "provisional"} for day in before.days)
        return (
            f"Not compared with {when}: of {count(len(before.days), 'day')}, "
            f"{loaded or 'none'} {be(max(loaded, 1))} loaded whole."
        )
    if found.days == len(figures.period.days):
        return f"Compared with {when}."
    return (
        f"Compared with {when}, on the {count(found.days, 'day')} of "
        f"{len(figures.period.days)} that are loaded whole in both periods."
    )


def _tiles(figures: Figures) -> list[Tile]:
    found, totals = figures.compared, figures.totals
    tiles = [
        Tile(
            name,
            NAMES[name],
            number(totals.counts.of(name)),
            change(found.this.counts.of(name), found.before.counts.of(name)) if found else None,
        )
        for name in MEASURES
    ]
    moved = change(found.this.users, found.before.users) if found else None
    return [*tiles, Tile("users", "Active users", number(totals.users), moved)]


def _moved(figures: Figures, measure: Measure) -> str:
    found = figures.compared
    if found is None:
        return ""
    moved = change(found.this.counts.of(measure), found.before.counts.of(measure))
    if moved is None:
        return ""
    over = "" if found.days == len(figures.period.days) else f" on {count(found.days, 'day')}"
    return f", {moved.words}{over} {moved.link} the period before"


def _over_time(figures: Figures) -> Section:
    unit = figures.period.unit
    operations = figures.totals.counts.operations
    finding = (
        f"{number(operations)} {noun(operations or 0, 'operation')}{_moved(figures, 'operations')}."
    )
    there = [
        (value, bar)
        for bar in figures.bars
        if bar.counts is not None
        and (value := bar.counts.operations) is not None
        and bar.known not in {"in part", "disputed"}
        and _is_whole(bar, unit)
    ]
    if len(there) > 1:
        high = max(there, key=lambda one: one[0])
        low = min(there, key=lambda one: one[0])
        at = {"week": "from", "month": "in"}.get(unit, "on")
        finding += f" Most {at} {tables.when(high[1])} with {number(high[0])}"
        # Of many hours in which nothing happens, none is worth a word.
        finding += (
            "." if unit == "hour" else f", least {at} {tables.when(low[1])} with {number(low[0])}."
        )
    keys = _bar_keys(figures)
    if any(bar.counts is not None and None in bar.counts for bar in figures.bars):
        keys.append(Key("gap", "not reported"))
    if any(bar.before for bar in figures.bars):
        keys.append(Key("line", "the same weekday of the period before"))
    return Section(
        "usage",
        f"Usage by {unit}",
        finding,
        [tables.over_time(figures)],
        partial(charts.over_time, figures),
        keys,
    )


def _is_whole(bar: Bar, unit: Unit) -> bool:
    """Whether it is no week or month of which the period has a part."""
    if unit == "week":
        return bar.end - bar.first == timedelta(days=7)
    return unit != "month" or (bar.first.day, bar.end.day) == (1, 1)


def _bar_keys(figures: Figures) -> list[Key]:
    known = {bar.known for bar in figures.bars}
    keys: list[Key] = []
    if known & {"provisional", "in part", "disputed"}:
        both = [words for name, words in IN_SHORT.items() if name in known - {"final", "missing"}]
        keys.append(Key("loose", " or ".join(both)))
    if "missing" in known:
        keys.append(Key("gap", "not loaded"))
    return keys


def _ranking(figures: Figures, found: Ranking, kind: str) -> Section:
    total = figures.totals.counts.operations
    heading = "Top users" if kind == "user" else "Top API keys"
    if not found.top:
        return Section(f"{kind}s", heading, "There is no usage in this period.")
    first = found.top[0]
    who = f"Calls without a {kind}"
    if first.id is not None:
        who = name_of(first.id, kind, _LONGEST_NAME)
    finding = f"{who} made {share(first.counts.operations, total)} of all operations."
    if len(found.top) > 2:
        together = sum(one.counts.operations or 0 for one in found.top[:3])
        finding += f" The first three made {share(together, total)}."
    if found.ids > len(found.top):
        finding += f" {len(found.top)} of {number(found.ids)} are shown."
    return Section(
        f"{kind}s",
        heading,
        finding,
        [tables.ranking(figures, found, kind)],
        partial(charts.ranking, found, kind, total),
        note="Operations, and the share of all operations.",
    )


def _week(figures: Figures) -> Section:
    there = [(average, cell) for cell in figures.week if (average := cell.average) is not None]
    if not there:
        return Section("week", "When in the week", "No operations are reported of any hour.")
    top, cell = max(there, key=lambda one: (one[0], -one[1].weekday, -one[1].hour))
    finding = (
        f"Busiest on {WEEKDAYS[cell.weekday - 1]}s from {cell.hour:02}:00 to "
        f"{(cell.hour + 1) % 24:02}:00, with {rounded(top)} {noun(top, 'operation')} an hour on "
        "average."
        if top
        else "There is no usage in this period."
    )
    unknown = sum(cell.asked > 0 for cell in figures.week) - len(there)
    if unknown:
        finding += f" {count(unknown, 'hour')} of the week {be(unknown)} not known."
    return Section(
        "week",
        "When in the week",
        finding,
        [tables.week(figures)],
        partial(charts.week, figures),
        [
            Key("ramp", f"0 to {rounded(top)} {noun(top, 'operation')} an hour"),
            *([Key("cross", "not known")] if unknown else []),
        ],
        note=f"Hours of the day in {figures.period.zone.key}; the average of the hours loaded.",
    )


def _active(figures: Figures) -> Section:
    people, unit = figures.people, figures.period.unit
    finding = f"{count(figures.totals.users, 'user')} used the API."
    found: list[Table] = [tables.active(figures)]
    if figures.history:
        new = people.counts["new"]
        finding += (
            f" {number(new)} of them {be(new)} new: without usage on the "
            f"{count(figures.history, 'day')} loaded before."
            if new
            else f" None of them is new, as far as the {count(figures.history, 'day')} loaded "
            "before tell."
        )
        if people.top["new"]:
            found.append(tables.people(people.top["new"], people.counts["new"], "New", gone=False))
    else:
        finding += " Who of them is new cannot be told: nothing before this period is loaded."
    if figures.compared is not None:
        lapsed = people.counts["lapsed"]
        finding += f" {number(people.counts['kept'])} had used it in the period before as well"
        finding += (
            f", and {number(people.counts['back'])} came back" if people.counts["back"] else ""
        )
        finding += (
            f". {number(lapsed)} of that period lapsed: no usage in this one."
            if lapsed
            else ". Nobody of that period has lapsed."
        )
        if lapsed:
            found.append(tables.people(people.top["lapsed"], lapsed, "Lapsed", gone=True))
    elif figures.history:
        finding += " Who has lapsed cannot be told without the period before."
    return Section(
        "active-users",
        "New and lapsed users",
        finding,
        found,
        partial(charts.active, figures),
        _bar_keys(figures),
        note=f"Active users by {unit}. Calls without a user count for nobody here.",
    )


def _coverage(figures: Figures) -> Section:
    days = figures.period.days
    known = {name: len(figures.known(name)) for name in charts.KNOWLEDGE_KEYS}
    said = [f"{number(n)} {IN_SHORT[name]}" for name, n in known.items() if n]
    finding = f"Of {count(len(days), 'day')}: {', '.join(said)}."
    if len(said) == 1 and known["final"]:
        finding = (
            "The day is final: it was read after the API's time to restate it."
            if len(days) == 1
            else f"All {count(len(days), 'day')} are final: they were read after the API's time "
            "to restate them."
        )
    present = set(figures.days.values())
    keys = [
        Key(sign, IN_SHORT[name]) for name, sign in charts.KNOWLEDGE_KEYS.items() if name in present
    ]
    return Section(
        "coverage",
        "What is loaded",
        finding,
        [tables.coverage(figures)],
        partial(charts.coverage, figures),
        keys,
        note="With the period before.",
    )


def _reconciliation(figures: Figures) -> Section:
    heading, name = "Reported and observed", "reconciliation"
    rows = figures.reconciliation
    if not rows:
        return Section(
            name,
            heading,
            "Nothing of this period is held against the conversations themselves: that takes "
            "MKA1_API_KEYS and a run over these days.",
        )
    whole = sum(row["comparisons"] for row in rows)
    by_class: dict[str, int] = {}
    for row in rows:
        by_class[row["class"]] = by_class.get(row["class"], 0) + row["comparisons"]
    possible = whole - by_class.get("not derivable", 0)
    unexplained = by_class.get("unexplained", 0)
    finding = (
        f"Of {count(possible, 'comparison')} that can be made, by day, user, key and measure, "
        f"{share(by_class.get('match', 0), possible)} match. "
    )
    finding += (
        "No difference is unexplained."
        if not unexplained
        else f"{number(unexplained)} {'differ' if unexplained > 1 else 'differs'} without an "
        "explanation: one of the two sides is wrong."
    )
    return Section(
        name,
        heading,
        finding if possible else f"None of {count(whole, 'comparison')} can be made.",
        [tables.reconciliation(figures)],
        partial(charts.reconciliation, figures),
        note=(
            f"Shares of comparisons, on {count(figures.reconciled, 'UTC day')}. "
            + " ".join(f"{known}: {_CLASSES[known]}." for known in CLASSES if known in by_class)
        ),
    )
