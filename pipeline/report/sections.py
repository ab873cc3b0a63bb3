"""What a report says, part by part: a heading, the finding in words, the chart, its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from pipeline.lake.schemas import CLASSES, Class
from pipeline.messages import be, count, noun
from pipeline.report import budgets, charts, spending_sections, tables
from pipeline.report.figures import MEASURES, Figures, Measure, Ranking
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
from pipeline.report.parts import Key, Section, Tile, all_of, bar_keys, extremes, than_before
from pipeline.report.source import EVERYTHING, WHOLE, Knowledge
from pipeline.report.spending import Spending
from pipeline.report.tables import Table

_MADE: Final[dict[Measure, tuple[str, str]]] = {
    "operations": ("made", "operation"),
    "items": ("added", "item"),
    "conversations": ("created", "conversation"),
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
    "dropped": "in no total here; `usage_1d` has these days",
    "missing": "unknown, not zero, and in no total",
}
"""What has to be known of days that are not final."""


@dataclass(frozen=True, slots=True)
class PageContent:
    """All that a report says, in order."""

    title: str
    of: str
    """`Of user Ada Lovelace`; empty where the report is of all."""
    about: str
    lead: str
    warnings: Sequence[str]
    tiles: Sequence[Tile]
    compared: str
    sections: Sequence[Section]


def page_content(figures: Figures) -> PageContent:
    """The report in words."""
    period, spending = figures.period, figures.spending
    by_model, of_usage = figures.only.model is not None, _has_usage(figures)
    return PageContent(
        title=span(period.first, period.last),
        of=f"Of {of}" if (of := of_what(figures)) else "",
        about=(
            f"{count(period.length, 'day')} in {period.zone.key}, complete through "
            f"{moment(figures.through, period.zone)}"
        ),
        lead=spending_sections.lead(spending) if by_model and spending else _lead(figures),
        warnings=_warnings(figures),
        tiles=[
            *(_tiles(figures) if of_usage else []),
            *(spending_sections.tiles(spending) if spending else []),
        ],
        compared=(_compared(figures) if of_usage else "")
        + (spending_sections.compared(figures, spending) if spending else ""),
        sections=_sections(figures, spending),
    )


def _sections(figures: Figures, spending: Spending | None) -> list[Section]:
    of_responses = spending_sections.sections(figures, spending) if spending else []
    has_budgets = figures.budgets or figures.other_budgets
    of_budgets = [budgets.section(figures)] if has_budgets else []
    if not _has_usage(figures):
        return [*of_responses, *of_budgets, _coverage(figures)]
    return [
        _over_time(figures),
        *of_responses,
        *of_budgets,
        *_rankings(figures),
        _week(figures),
        _active(figures),
        _coverage(figures),
        _reconciliation(figures),
    ]


def _has_usage(figures: Figures) -> bool:
    """False of a model, of which the API reports no usage, and of a part without any."""
    only = figures.only
    return only.model is None and (only == EVERYTHING or figures.users.ids > 0)


def of_what(figures: Figures) -> str:
    """What the report is of: `user Ada Lovelace, model large`; empty where that is all."""
    named = [
        f"{'API key' if kind == 'key' else kind} {name_of(figures.called.get(kind, id_), kind, 60)}"
        for kind, id_ in figures.only._asdict().items()
        if id_ is not None
    ]
    return ", ".join(named)


def _lead(figures: Figures) -> str:
    if not figures.users.ids:
        of = of_what(figures)
        who = f" of {of}" if of else ""
        return f"There is no usage{who} in what is loaded of this period."
    totals = figures.totals
    operations, items, conversations = (
        f"{verb} an unknown number of {noun(0, counted)}"
        if (value := totals.counts.of(name)) is None
        else f"{verb} {count(value, counted)}"
        for name, (verb, counted) in _MADE.items()
    )
    who = f"{count(totals.users, 'user')} with {count(totals.keys, 'API key')}"
    return f"{who} {operations}, {items} and {conversations}."


def _warnings(figures: Figures) -> list[str]:
    return [
        f"{count(len(days), 'day')} {be(len(days))} {IN_SHORT[known]}, "
        f"{stretches(days)}: {meaning}."
        for known, meaning in _MEANINGS.items()
        if (days := figures.known(known))
    ]


def _compared(figures: Figures) -> str:
    before, found = figures.period.before, figures.compared
    when = span(before.first, before.last)
    if found is None:
        loaded = sum(figures.days[day] in WHOLE for day in before.days)
        return (
            f"Nothing is compared with the period before, {when}: of its "
            f"{count(len(before.days), 'day')}, {loaded or 'none'} {be(max(loaded, 1))} loaded "
            "whole."
        )
    if found.days == len(figures.period.days):
        return f"Compared with {when}."
    return (
        f"Compared with {when}, on the {count(found.days, 'day')} of "
        f"{len(figures.period.days)} that are loaded whole in both periods."
    )


def _tiles(figures: Figures) -> list[Tile]:
    found, totals = figures.compared, figures.totals
    moved = change(found.this.users, found.before.users) if found else None
    return [
        *(
            Tile(name, NAMES[name], number(totals.counts.of(name)), _change(figures, name))
            for name in MEASURES
        ),
        Tile("users", "Active users", number(totals.users), moved),
    ]


def _change(figures: Figures, measure: Measure) -> Change | None:
    found = figures.compared
    return change(found.this.counts.of(measure), found.before.counts.of(measure)) if found else None


def _over_time(figures: Figures) -> Section:
    unit = figures.period.unit
    operations = figures.totals.counts.operations
    finding = f"{number(operations)} {noun(operations or 0, 'operation')}"
    if figures.compared:
        finding += than_before(
            _change(figures, "operations"), figures.compared.days, figures.period
        )
    counted = [(bar, bar.counts.operations if bar.counts else None) for bar in figures.bars]
    finding += f".{extremes(counted, unit, number)}"
    keys = bar_keys(figures.bars)
    if any(bar.counts and None in bar.counts for bar in figures.bars):
        keys.append(Key("gap", "not reported"))
    if any(bar.before for bar in figures.bars):
        keys.append(Key("line", "the same weekday of the period before"))
    table, chart = tables.over_time(figures), partial(charts.over_time, figures)
    return Section("usage", f"Usage by {unit}", finding, [table], chart, keys)


def _rankings(figures: Figures) -> list[Section]:
    """Top users, keys and teams; not of a kind of which the report is of one."""
    only, found = figures.only, [("user", figures.users), ("key", figures.keys)]
    if figures.teams:
        found.append(("team", figures.teams))
    return [_ranking(figures, of, kind) for kind, of in found if getattr(only, kind) is None]


def _ranking(figures: Figures, found: Ranking, kind: str) -> Section:
    total = figures.totals.counts.operations
    name, heading = f"{kind}s", "Top API keys" if kind == "key" else f"Top {kind}s"
    if not found.top:
        return Section(name, heading, "There is no usage in this period.")
    first = found.top[0]
    who = f"Calls without a {kind}" if first.shown is None else name_of(first.shown, kind, 40)
    whole = all_of(figures, "operations")
    finding = f"{who} made {share(first.counts.operations, total)} of {whole}."
    if len(found.top) > 2:
        together = sum(one.counts.operations or 0 for one in found.top[:3])
        finding += f" The first three made {share(together, total)}."
    if found.ids > len(found.top):
        finding += f" {len(found.top)} of {number(found.ids)} are shown."
    table, chart = tables.ranking(figures, found, kind), partial(charts.ranking, found, kind, total)
    note = f"Operations, and the share of {whole}."
    return Section(name, heading, finding, [table], chart, note=note)


def _week(figures: Figures) -> Section:
    name, heading = "week", "When in the week"
    there = [(average, cell) for cell in figures.week if (average := cell.average) is not None]
    if not there:
        return Section(name, heading, "No operations are reported of any hour.")
    top, cell = max(there, key=lambda one: (one[0], -one[1].weekday, -one[1].hour))
    amount = f"{rounded(top)} {noun(top, 'operation')} an hour"
    finding = (
        f"Busiest on {WEEKDAYS[cell.weekday - 1]}s from {cell.hour:02}:00 to "
        f"{(cell.hour + 1) % 24:02}:00, with {amount} on average."
        if top
        else "There is no usage in this period."
    )
    keys = [Key("ramp", f"0 to {amount}")]
    unknown = sum(cell.asked > 0 for cell in figures.week) - len(there)
    if unknown:
        finding += f" {count(unknown, 'hour')} of the week {be(unknown)} not known."
        keys.append(Key("cross", "not known"))
    note = f"Hours of the day in {figures.period.zone.key}; the average of the hours loaded."
    table, chart = tables.week(figures), partial(charts.week, figures)
    return Section(name, heading, finding, [table], chart, keys, note)


def _active(figures: Figures) -> Section:
    new, kept, back, lapsed = figures.people.counts.values()
    before = f"the {count(figures.history, 'day')} loaded before"
    said = [f"{count(figures.totals.users, 'user')} used the API."]
    found: list[Table] = [tables.active(figures)]
    if not figures.history:
        said.append("Who of them is new cannot be told: nothing before this period is loaded.")
    elif new:
        said.append(f"{number(new)} of them {be(new)} new: without usage on {before}.")
        found.append(tables.people(figures, "new"))
    else:
        said.append(f"None of them is new, as far as {before} tell.")
    if figures.compared is not None:
        came_back = f", and {number(back)} came back" if back else ""
        said.append(f"{number(kept)} had used it in the period before as well{came_back}.")
        if lapsed:
            said.append(f"{number(lapsed)} of that period lapsed: no usage in this one.")
            found.append(tables.people(figures, "lapsed"))
        else:
            said.append("Nobody of that period has lapsed.")
    elif figures.history:
        said.append("Who has lapsed cannot be told without the period before.")
    return Section(
        "active-users",
        "New and lapsed users",
        " ".join(said),
        found,
        partial(charts.active, figures),
        bar_keys(figures.bars),
        f"Active users by {figures.period.unit}. Calls without a user count for nobody here.",
    )


def _coverage(figures: Figures) -> Section:
    days = count(len(figures.period.days), "day")
    known = {name: len(figures.known(name)) for name in charts.KNOWLEDGE_KEYS}
    said = [f"{number(n)} {IN_SHORT[name]}" for name, n in known.items() if n]
    finding = f"Of {days}: {', '.join(said)}."
    if known["final"] == len(figures.period.days):
        finding = f"All {days} are final: they were read after the API's time to restate them."
        if known["final"] == 1:
            finding = "The day is final: it was read after the API's time to restate it."
    present = set(figures.days.values())
    keys = [
        Key(sign, IN_SHORT[name]) for name, sign in charts.KNOWLEDGE_KEYS.items() if name in present
    ]
    table, chart = tables.coverage(figures), partial(charts.coverage, figures)
    note = "With the period before."
    return Section("coverage", "What is loaded", finding, [table], chart, keys, note)


def _reconciliation(figures: Figures) -> Section:
    name, heading = "reconciliation", "Reported and observed"
    if not figures.reconciliation and figures.reconciled:
        return Section(name, heading, "There is nothing to compare on either side.")
    if not figures.reconciliation:
        return Section(
            name,
            heading,
            "Nothing of this period is held against the conversations themselves: that takes "
            "MKA1_API_KEYS and a run over these days.",
        )
    by_class = Counter[Class]()
    for row in figures.reconciliation:
        by_class[row["class"]] += row["comparisons"]
    classes = " ".join(f"{known}: {_CLASSES[known]}." for known in CLASSES if known in by_class)
    note = f"Shares of comparisons, on {count(figures.reconciled, 'UTC day')}. {classes}"
    table, chart = tables.reconciliation(figures), partial(charts.reconciliation, figures)
    return Section(name, heading, _agreement(by_class), [table], chart, note=note)


def _agreement(by_class: Counter[Class]) -> str:
    """How many numbers of the API are the same in the conversations, and why the others are not."""
    possible = by_class.total() - by_class["not derivable"]
    said = (
        "For each day, user, key and measure, the number that the API reports is compared with the "
        "number found in the conversations themselves. "
    )
    if not possible:
        return f"{said}None of these {count(by_class.total(), 'comparison')} can be made."
    same, unexplained = by_class["match"], by_class["unexplained"]
    explained = possible - same - unexplained
    said += (
        f"Of the {count(possible, 'number')} that can be compared, {number(same)} "
        f"({share(same, possible)}) {be(same)} the same on both sides"
    )
    if explained:
        reasons = [
            f"{name}: {number(by_class[name])}"
            for name in CLASSES
            if name not in {"match", "unexplained", "not derivable"} and by_class[name]
        ]
        said += (
            f" and {number(explained)} ({share(explained, possible)}) "
            f"{'differs' if explained == 1 else 'differ'} for a known reason "
            f"({', '.join(reasons)})"
        )
    if not unexplained:
        return f"{said}. No difference is unexplained."
    return (
        f"{said}. {number(unexplained)} {'differs' if unexplained == 1 else 'differ'} without an "
        "explanation: one of the two sides is wrong."
    )
