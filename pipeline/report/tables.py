"""The numbers behind each chart, as a table under it.

Belongs here: rows of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Final

from pipeline.messages import count
from pipeline.report.figures import MEASURES, Bar, Figures, Person, Ranking
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

LONGEST_NAME: Final = 100
"""Characters of an id in a table."""
_MOST_STRETCHES: Final = 60


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, column heads, rows. The first `words` columns are text, the others numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    left_out: str = ""


def over_time(figures: Figures) -> Table:
    """A row for each bar."""
    unit = figures.period.unit
    head = [unit.capitalize(), "Status", *(NAMES[name] for name in MEASURES)]
    compared = any(bar.before for bar in figures.bars)
    if compared:
        head += [f"{NAMES[name]}, before" for name in MEASURES]
    rows: list[list[str]] = []
    for bar in figures.bars:
        row = [when(bar), IN_SHORT[bar.known]]
        row += [number(bar.counts.of(name) if bar.counts else None) for name in MEASURES]
        if compared:
            row += [number(bar.before.of(name) if bar.before else None) for name in MEASURES]
        rows.append(row)
    return Table(f"Usage by {unit}, {figures.period.zone.key}", head, rows, words=2)


def when(bar: Bar) -> str:
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
    total = figures.totals.counts.operations
    compared = figures.compared is not None
    head = [kind.capitalize(), *(NAMES[name] for name in MEASURES), "Share of operations"]
    rows: list[list[str]] = []
    names = names_of([one.id for one in found.top], kind, LONGEST_NAME)
    for name, one in zip(names, found.top, strict=True):
        row = [name]
        row += [number(one.counts.of(measure)) for measure in MEASURES]
        row.append(share(one.counts.operations, total))
        if compared:
            moved = change(one.compared, one.before)
            row.append(moved.sign if moved else UNKNOWN)
        rows.append(row)
    more = found.ids - len(found.top)
    return Table(
        f"The {kind}s that use most, by operations",
        [*head, "Operations, change"] if compared else head,
        rows,
        left_out=f"{count(more, f'more {kind}')} with usage: not listed." if more else "",
    )


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


def active(figures: Figures) -> Table:
    """A row for each bar: how many users, and how many of them new."""
    unit = figures.period.unit
    head = [unit.capitalize(), "Status", "Active users"]
    head += ["New users"] if figures.history else []
    rows = [
        [when(bar), IN_SHORT[bar.known], number(bar.users)]
        + ([number(bar.new_users)] if figures.history else [])
        for bar in figures.bars
    ]
    return Table(f"Active users by {unit}, {figures.period.zone.key}", head, rows, words=2)


def people(found: Sequence[Person], all_of_them: int, name: str, *, gone: bool) -> Table:
    """A row for each of the most active users who came or went."""
    names = names_of([one.id for one in found], "user", LONGEST_NAME)
    rows = [
        [who, number(one.before if gone else one.operations)]
        for who, one in zip(names, found, strict=True)
    ]
    more = all_of_them - len(found)
    return Table(
        f"{name} users who used most" + (", before they left" if gone else ""),
        ["User", "Operations in the period before" if gone else "Operations"],
        rows,
        left_out=f"{count(more, f'more {name.lower()} user')}: not listed." if more else "",
    )


def coverage(figures: Figures) -> Table:
    """A row for each stretch of days of which the same is known, the last ones."""
    days = sorted(figures.days.items())
    found: list[tuple[date, date, str]] = []
    for known, group in groupby(days, key=lambda one: one[1]):
        members = [one for one, _ in group]
        found.append((members[0], members[-1], IN_SHORT[known]))
    shown = found[-_MOST_STRETCHES:]
    more = len(found) - len(shown)
    return Table(
        "What is loaded, with the period before",
        ["From", "Through", "Status", "Days"],
        [[full(a), full(b), known, number((b - a).days + 1)] for a, b, known in shown],
        words=3,
        left_out=f"{count(more, 'earlier row')}: not listed." if more else "",
    )


def reconciliation(figures: Figures) -> Table:
    """A row for each measure and class."""
    rows = [
        [
            measure_name(str(row["measure"])),
            str(row["class"]),
            number(row["comparisons"]),
            number(row["reported"]),
            number(row["observed"]),
            number(row["difference"]),
        ]
        for row in figures.reconciliation
    ]
    head = ["Measure", "Class", "Comparisons", "Reported", "Observed", "Difference"]
    return Table("Reported and observed, by measure and class", head, rows, words=2)


def measure_name(column: str) -> str:
    """The measure of a column of the tables, as it is called here."""
    return next((NAMES[name] for name in MEASURES if name in column), column)
