"""The numbers behind each chart, as a table under it: rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final, Literal

from pipeline.messages import count
from pipeline.report.figures import MEASURES, Bar, Counts, Figures, Person, Ranked, Ranking
from pipeline.report.formatting import (
    IN_SHORT,
    MONTHS,
    NAMES,
    UNKNOWN,
    WEEKDAYS,
    change,
    day,
    full,
    names_of,
    number,
    rounded,
    share,
    span,
)
from pipeline.report.spending import SpendingBar

_MOST_STRETCHES: Final = 60


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, column heads, rows. The first `words` columns are text, the others numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    left_out: str = ""
    kind: str = ""
    """What each row is of, where that has an id: a user, a key, a model."""
    ids: Sequence[str | None] = ()


def over_time(figures: Figures) -> Table:
    """A row for each bar."""
    of_bars = [(_numbers(bar.counts), _numbers(bar.before)) for bar in figures.bars]
    if any(bar.before for bar in figures.bars):
        head = [*NAMES.values(), *(f"{name}, before" for name in NAMES.values())]
        return by_bar(
            figures, figures.bars, "Usage", head, [[*now, *before] for now, before in of_bars]
        )
    return by_bar(figures, figures.bars, "Usage", [*NAMES.values()], [now for now, _ in of_bars])


def active(figures: Figures) -> Table:
    """A row for each bar: how many users, and how many of them new."""
    head = ["Active users", "New users"] if figures.history else ["Active users"]
    rows = [[number(bar.users), number(bar.new_users)][: len(head)] for bar in figures.bars]
    return by_bar(figures, figures.bars, "Active users", head, rows)


def by_bar(
    figures: Figures,
    bars: Sequence[Bar | SpendingBar],
    what: str,
    head: list[str],
    numbers: list[list[str]],
) -> Table:
    """A row for each bar: when, what is known of it, its numbers."""
    unit = figures.period.unit
    rows = [
        [when(bar), IN_SHORT[bar.known], *of_bar] for bar, of_bar in zip(bars, numbers, strict=True)
    ]
    caption = f"{what} by {unit}, {figures.period.zone.key}"
    return Table(caption, [unit.capitalize(), "Status", *head], rows, words=2)


def _numbers(counts: Counts | None) -> list[str]:
    return [number(counts.of(measure) if counts else None) for measure in MEASURES]


def when(bar: Bar | SpendingBar) -> str:
    """The hour, day or days that a bar stands for."""
    if bar.end - bar.first < timedelta(days=1):
        return f"{day(bar.first)} {bar.first.year}, {bar.first:%H:%M}"
    last = (bar.end - timedelta(days=1)).date()
    first = bar.first.date()
    if first == last:
        return f"{day(first)} {first.year}"
    if (first.day, bar.end.day, first.month) == (1, 1, last.month):
        return f"{MONTHS[first.month - 1]} {first.year}"
    return span(first, last)


def ranking(figures: Figures, found: Ranking, kind: str) -> Table:
    """A row for each user or key of a top list."""
    head = [kind.capitalize(), *NAMES.values(), "Share of operations"]
    head += ["Operations, change"] if figures.compared else []
    rows: list[list[str]] = []
    for name, one in zip(_names(found.top, kind), found.top, strict=True):
        part = share(one.counts.operations, figures.totals.counts.operations)
        row = [name, *_numbers(one.counts), part]
        if figures.compared:
            moved = change(one.compared, one.before)
            row.append(moved.sign if moved else UNKNOWN)
        rows.append(row)
    more = found.ids - len(found.top)
    return Table(
        f"The {kind}s that use most, by operations",
        head,
        rows,
        left_out=f"{count(more, f'more {kind}')} with usage: not listed." if more else "",
        kind=kind,
        ids=[one.id for one in found.top],
    )


def _names(ranked: Sequence[Ranked] | Sequence[Person], kind: str) -> list[str]:
    return names_of([one.shown for one in ranked], kind, 100)


def week(figures: Figures) -> Table:
    """A row for each hour of the day, a column for each weekday."""
    cells = {(cell.weekday, cell.hour): cell.average for cell in figures.week}
    rows = [
        [f"{hour:02}:00", *(rounded(cells[weekday, hour]) for weekday in range(1, 8))]
        for hour in range(24)
    ]
    return Table(
        f"Operations an hour on average, by weekday and hour, {figures.period.zone.key}",
        ["Hour", *WEEKDAYS],
        rows,
    )


def people(figures: Figures, kind: Literal["new", "lapsed"]) -> Table:
    """A row for each of the most active users who came or went."""
    found, gone = figures.people.top[kind], kind == "lapsed"
    rows = [
        [who, number(one.before if gone else one.operations)]
        for who, one in zip(_names(found, "user"), found, strict=True)
    ]
    more = figures.people.counts[kind] - len(found)
    return Table(
        f"{kind.capitalize()} users who used most" + (", before they left" if gone else ""),
        ["User", "Operations in the period before" if gone else "Operations"],
        rows,
        left_out=f"{count(more, f'more {kind} user')}: not listed." if more else "",
        kind="user",
        ids=[one.id for one in found],
    )


def coverage(figures: Figures) -> Table:
    """A row for each stretch of days of which the same is known, the last ones."""
    found: list[list[str]] = []
    for known, group in groupby(sorted(figures.days.items()), key=lambda one: one[1]):
        days = [day for day, _ in group]
        length = number((days[-1] - days[0]).days + 1)
        found.append([full(days[0]), full(days[-1]), IN_SHORT[known], length])
    more = len(found[:-_MOST_STRETCHES])
    return Table(
        "What is loaded, with the period before",
        ["From", "Through", "Status", "Days"],
        found[-_MOST_STRETCHES:],
        words=3,
        left_out=f"{count(more, 'earlier row')}: not listed." if more else "",
    )


def reconciliation(figures: Figures) -> Table:
    """A row for each measure and class."""
    numbers = ("comparisons", "reported", "observed", "difference")
    rows = [
        [measure_name(row["measure"]), row["class"], *(number(row[name]) for name in numbers)]
        for row in figures.reconciliation
    ]
    head = ["Measure", "Class", *(name.capitalize() for name in numbers)]
    return Table("Reported and observed, by measure and class", head, rows, words=2)


def measure_name(column: str) -> str:
    """The measure of a column of the tables, as it is called here."""
    known = next((NAMES[name] for name in MEASURES if name in column), None)
    return known or column.removeprefix("num_").replace("_", " ").capitalize()
