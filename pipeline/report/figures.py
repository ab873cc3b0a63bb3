"""What the lake holds of a report's period, as plain numbers.

Belongs here: the inputs of `sql/report_*.sql`, and what is known of each local day. Unknown is
None, never 0: a measure that the API does not report, a day that is not loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pipeline.lake import engine
from pipeline.lake.buckets import finest
from pipeline.lake.completeness import of_coverage
from pipeline.lake.schemas import CLASSES, RECONCILIATION, USAGE
from pipeline.lake.slices import MOST_ROWS
from pipeline.lake.snapshot import Damage, DamagedError
from pipeline.lake.store import Lake
from pipeline.names.file import NOBODY, Names
from pipeline.pricing.budget_states import BudgetState, budget_states
from pipeline.pricing.budgets import Budget
from pipeline.pricing.prices import PriceList
from pipeline.pseudonyms import Pseudonyms
from pipeline.report.axis import Axis, axis_of, days_of, paired_days
from pipeline.report.naming import named
from pipeline.report.period import LONGEST, Period, local_day, starts_at
from pipeline.report.source import EVERYTHING, NOTHING, WHOLE, Knowledge, Known, Only, Source
from pipeline.report.spending import Spending, read_spending
from pipeline.timeline import SECONDS, Window, day_window

Measure = Literal["operations", "items", "conversations"]
MEASURES: Final[tuple[Measure, ...]] = ("operations", "items", "conversations")

NO_PRICES: Final = PriceList(Path())
DEFAULT_DAYS: Final = 28
"""Whole weeks, so that the period before has the same weekdays."""
TOP: Final = 10
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998
_SHOWN: Final = 60
"""Characters of an id that an error quotes."""


class NothingToReportError(Exception):
    """No day of the period is loaded. The message says what to do."""


class PeriodError(ValueError):
    """The days that were asked for make no period. The message says why."""


class Counts(NamedTuple):
    """The measures; None where nobody reports one."""

    conversations: int | None
    items: int | None
    operations: int | None

    def of(self, measure: Measure) -> int | None:
        """The number of a measure, by its name."""
        return self[self._fields.index(measure)]


class Totals(NamedTuple):
    """What some days come to, and how many users and keys made it."""

    counts: Counts
    users: int
    keys: int


class Bar(NamedTuple):
    """One hour, day, week or month on an axis: `[first, end)` as a clock there shows it."""

    first: datetime
    end: datetime
    known: Knowledge
    counts: Counts | None
    users: int | None
    new_users: int | None
    before: Counts | None
    """The same weekday of the period before, where days are shown and it is compared."""


class Ranked(NamedTuple):
    """A user or a key. The last two are of the days that are compared, None where none are."""

    id: str | None
    counts: Counts
    compared: int | None
    before: int | None
    name: str | None = None

    @property
    def shown(self) -> str | None:
        """The name, else the id."""
        return self.name or self.id


class Ranking(NamedTuple):
    """The most active, and how many there are in all."""

    top: list[Ranked]
    ids: int


class Cell(NamedTuple):
    """An hour of the week: its operations, and how many such hours are asked for and loaded."""

    weekday: int
    hour: int
    operations: int | None
    asked: float
    loaded: float

    @property
    def average(self) -> float | None:
        """Operations an hour; None where none is known."""
        if self.operations is None or not self.loaded:
            return None
        return self.operations / self.loaded


class Person(NamedTuple):
    """A user, with operations in this period and in the one before."""

    id: str
    operations: int | None
    before: int | None
    name: str | None = None

    @property
    def shown(self) -> str:
        """The name, else the id."""
        return self.name or self.id


@dataclass(frozen=True, slots=True)
class People:
    """How many users are new, kept, back and lapsed, in this order, and the most active of each."""

    counts: Mapping[str, int]
    top: Mapping[str, Sequence[Person]]


class Compared(NamedTuple):
    """Totals of the days that are loaded in both periods, in this one and in the one before."""

    days: int
    this: Totals
    before: Totals


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that a report says, in numbers."""

    period: Period
    totals: Totals
    bars: list[Bar]
    compared: Compared | None
    """None where too little of the period before is loaded."""
    days: Mapping[date, Knowledge]
    """What is known of each day, of the period before too."""
    through: int
    """Usage is complete through this moment, in Unix seconds: up to the first hole."""
    end: int
    """The last moment of the period of which anything is loaded, in Unix seconds."""
    users: Ranking
    keys: Ranking
    week: list[Cell]
    people: People
    history: int
    """UTC days loaded before the period: who has no usage there is new."""
    reconciliation: list[dict[str, Any]]
    reconciled: int
    """UTC days that are reconciled."""
    spending: Spending | None
    """None where no response of the period is listed."""
    damage: Sequence[Damage]
    """Files that are left out, since they are not what was published: their days are missing."""
    budgets: Sequence[BudgetState] = ()
    teams: Ranking | None = None
    """None where nobody is in a team."""
    only: Only = EVERYTHING
    called: Mapping[str, str] = field(default_factory=dict[str, str])
    """The name of what the report is `only` of, by kind, where it has one."""
    other_budgets: int = 0
    """So many budgets are of other usage than the report is."""

    def known(self, state: Knowledge) -> list[date]:
        """The days of the period of which this is known."""
        return [day for day in self.period.days if self.days[day] == state]


def read(
    lake: Lake,
    first: date | None,
    last: date | None,
    zone: ZoneInfo,
    prices: PriceList = NO_PRICES,
    budgets: Sequence[Budget] = (),
    pseudonyms: Pseudonyms | None = None,
    names: Names = NOBODY,
    *,
    only: Only = EVERYTHING,
    days: int = DEFAULT_DAYS,
) -> Figures:
    """The figures of the local days from `first` through `last`, of all or `only` of some usage.

    By default the last `days` complete ones, or as many as there are. Without `prices` there are no
    costs. Budgets are those of all that the report is of, and of nothing else, at the last moment
    that is loaded of these days; UserIdModeError where one is of a user, and the lake has another
    kind of user ids than `pseudonyms`. PeriodError where the days make no period,
    NothingToReportError where none of them is loaded, where a model is asked for of which no
    response is listed, or a team that nobody is in.
    """
    with closing(engine.connect(lake)) as con:
        source = Source(con, lake, names, only=only)
        if not source.days:
            damage = source.snapshot.damage
            raise NothingToReportError(
                f"{lake.root} cannot be read: {DamagedError(damage)}"
                if damage
                else f"nothing is loaded in {lake.root}: load days with `mka1-usage run`"
            )
        _check_team(only.team, names)
        figures = named(_read(source, _period(source, first, last, zone, days), prices), names)
    of_this = _budgets_of(only, budgets, pseudonyms)
    figures = replace(figures, other_budgets=len(budgets) - len(of_this))
    if not of_this:
        return figures
    end = figures.end
    states = budget_states(
        *(source.snapshot, lake, of_this, prices, end - 1, pseudonyms),
        through=end,
        names=names.table,
    )
    return replace(figures, budgets=states)


def _check_team(team: str | None, names: Names) -> None:
    """NothingToReportError for a team that nobody is in: its usage would seem to be none."""
    if team is None or team in names.with_members:
        return
    shown = team if len(team) <= _SHOWN else f"{team[: _SHOWN - 1]}…"
    by_words = {name: id_ for id_, name in names.teams.items() if id_ in names.with_members}
    by_words |= {id_: id_ for id_ in names.with_members}
    close = get_close_matches(shown, by_words, n=1)
    what_to_do = (
        f"did you mean the team {by_words[close[0]]!r}?"
        if close
        else "names.csv (MKA1_USAGE_NAMES) says who is in which team"
    )
    raise NothingToReportError(f"nobody is in the team {shown!r}: {what_to_do}")


def _budgets_of(
    only: Only, budgets: Sequence[Budget], pseudonyms: Pseudonyms | None
) -> Sequence[Budget]:
    """The budgets of all that a report is of, and of nothing else."""
    if only == EVERYTHING:
        return budgets

    def of(budget: Budget) -> Only | None:
        if budget.scope == "all":
            return None
        in_lake = pseudonyms.of(budget.id) if budget.scope == "user" and pseudonyms else budget.id
        return Only(**{budget.scope: in_lake})

    return [budget for budget in budgets if of(budget) == only]


def _period(
    source: Source, first: date | None, last: date | None, zone: ZoneInfo, days: int
) -> Period:
    """The days that were asked for, or the default. Raises PeriodError."""
    for asked in (first, last):
        if asked is not None and asked.year < _FIRST_YEAR:
            raise PeriodError(f"{asked} is too far in the past: no day before 1970 is known")
    if last is None:
        last = _last_whole_day(source, zone)
        if first is not None and last < first:
            last = first
    if first is None:
        begins = day_window(source.days[0]).start
        earliest = local_day(begins, zone)
        if starts_at(earliest, zone) < begins:
            earliest += timedelta(days=1)  # west of Greenwich a UTC day begins in mid-day
        first = max(last - timedelta(days=days - 1), min(earliest, last))
    if last < first:
        raise PeriodError(f"the period ends before it begins: {first} to {last}")
    if last.year > _LAST_YEAR:
        raise PeriodError(f"{last} is too far in the future: no day after {_LAST_YEAR} is known")
    if (last - first).days >= LONGEST:
        raise PeriodError(
            f"{first} to {last} is more than {LONGEST:,} days: ask for less at a time"
        )
    return Period(first, last, zone)


def _last_whole_day(source: Source, zone: ZoneInfo) -> date:
    """The last local day that is loaded to its end; the last of which anything is, if none is."""
    newest = source.days[-1]
    known = source.known(day for day in source.days if (newest - day).days <= 2)
    last = local_day(max(known.through.values(), default=day_window(newest).end) - 1, zone)
    for day in (last, last - timedelta(days=1)):
        if known.knowledge(Period(day, day, zone).window) in WHOLE:
            return day
    return last


def _read(source: Source, period: Period, prices: PriceList) -> Figures:
    start = period.window.start
    known = source.known(Window(period.before.window.start, period.window.end).days)
    days = days_of(period, known)
    if all(days[day] in NOTHING for day in period.days):
        end = period.last + timedelta(days=1)
        if source.snapshot.is_dropped(USAGE["1h"].name, period.last):
            raise NothingToReportError(
                f"the hours of {period.first} to {period.last} are not kept any more "
                "(MKA1_USAGE_KEEP_HOURS_DAYS), and reports are made of hours: `mka1-usage sql` has "
                "the days, in usage_1d"
            )
        raise NothingToReportError(
            f"no day of {period.first} to {period.last} is loaded: load them with "
            f"`mka1-usage run --start {period.first} --end {end}`, or ask for days from "
            f"{source.days[0]} to {source.days[-1]}"
        )
    paired = paired_days(period, days)
    axis = axis_of(source.con, period)
    _bind(source, axis, paired)
    history = [day for day in source.days if day_window(day).end <= start]
    source.bind("usage_1d", USAGE["1d"], history)
    compared = None
    if paired:
        this, prior = (_totals(source, name, paired=True) for name in ("this", "before"))
        compared = Compared(len(paired), this, prior)
    asked = set(period.window.days)
    asked &= {*source.days}
    reconciled = [day for day in source.snapshot.days(RECONCILIATION.name) if day in asked]
    return Figures(
        period=period,
        totals=_totals(source, "this"),
        bars=_bars(source, axis, known, paired, history=bool(history)),
        compared=compared,
        days=days,
        users=_ranking(source, "user", compared=bool(paired)),
        keys=_ranking(source, "key", compared=bool(paired)),
        teams=_ranking(source, "team", compared=bool(paired)) if source.names.has_teams else None,
        week=_week(source, axis, known),
        people=_people(source),
        history=len(history),
        reconciliation=_reconciliation(source, reconciled),
        reconciled=len(reconciled),
        spending=_spending(source, axis, prices),
        damage=source.snapshot.damage,
        through=_through(source),
        end=_end(known, period.window.end),
        only=source.only,
    )


def _spending(source: Source, axis: Axis, prices: PriceList) -> Spending | None:
    spending, period = read_spending(source, axis, prices.table), axis.period
    if spending is None and source.only.model is not None:
        raise NothingToReportError(
            f"no response of this model is listed from {period.first} to {period.last}: usage is "
            "known by model only where responses are listed, by a run with MKA1_API_KEYS"
        )
    return spending


def _end(known: Known, end: int) -> int:
    """The last moment of the period of which usage is loaded, in Unix seconds."""
    return min(end, max(known.through.values(), default=end))


def _through(source: Source) -> int:
    source.snapshot.bind_coverage(source.con, source.days)
    through = of_coverage(source.con).through
    return day_window(source.days[0]).start if through is None else through


def _bind(source: Source, axis: Axis, paired: set[date]) -> None:
    """Make `hours` what report_hours gives, and `members` what report_members does.

    They are tables of DuckDB's own, which go to disk where users are many, and are filled some bars
    at a time: what one query groups fits into memory.
    """
    con, dataset = source.con, USAGE[finest(axis.spans)]
    rows = source.number_of_rows(dataset, Window(axis.spans[0].start, axis.spans[-1].end).days)
    fill = "CREATE TEMP TABLE {} AS"
    for window, slots in axis.parts(paired, rows // MOST_ROWS + 1):
        source.bind("usage_rows", dataset, window.days, window)
        con.register("slots", slots)
        con.execute(f"CREATE OR REPLACE TEMP VIEW report_rows AS {engine.sql('report_rows')}")
        for name in ("hours", "members", "teams"):
            rows_of = engine.sql(f"report_{name}")
            if name == "teams" and not source.names.has_teams:
                rows_of = f"FROM ({rows_of}) LIMIT 0"
            con.execute(f"{fill.format(name)} {rows_of}")
        fill = "INSERT INTO {}"


def _totals(source: Source, period: str, *, paired: bool = False) -> Totals:
    [(*counts, rows, users, keys)] = source.rows("totals", period=period, paired_only=paired)
    return Totals(Counts(*counts) if rows else Counts(0, 0, 0), users, keys)


def _bars(
    source: Source, axis: Axis, known: Known, paired: set[date], *, history: bool
) -> list[Bar]:
    none = (Counts(0, 0, 0), 0)
    counted = {
        (name, unit): (Counts(*counts), users)
        for name, unit, *counts, users in source.rows("units")
    }
    new = dict(source.rows("arrivals"))
    bars: list[Bar] = []
    for place in axis.places(known):
        counts, users = counted.get(("this", place.unit), none)
        before = axis.before(place, paired)
        bar = Bar(
            first=place.first,
            end=place.end,
            known=place.known,
            counts=counts,
            users=users,
            new_users=new.get(place.unit, 0) if history else None,
            before=None if before is None else counted.get(("before", before), none)[0],
        )
        if place.known in NOTHING:
            bar = bar._replace(counts=None, users=None, new_users=None)
        bars.append(bar)
    return bars


def _ranking(source: Source, kind: str, *, compared: bool) -> Ranking:
    rows = source.rows("ranking", kind=kind, at_most=TOP)
    top = [
        Ranked(
            id=name,
            counts=Counts(*counts),
            compared=(now or 0) if compared else None,
            before=(before or 0) if compared else None,
        )
        for name, *counts, now, before, _ in rows
    ]
    return Ranking(top, rows[0][-1] if rows else 0)


def _week(source: Source, axis: Axis, known: Known) -> list[Cell]:
    asked, loaded = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for one in axis.hours:
        place = one.shown.isoweekday(), one.shown.hour
        asked[place] += one.span.end - one.span.start
        loaded[place] += known.loaded(one.span)
    used = {(weekday, hour): operations for weekday, hour, operations in source.rows("week")}
    width = SECONDS["1h"]
    return [
        Cell(*place, used.get(place, 0), asked[place] / width, loaded[place] / width)
        for place in product(range(1, 8), range(24))
    ]


def _people(source: Source) -> People:
    counts = dict.fromkeys(("new", "kept", "back", "lapsed"), 0)
    top: dict[str, list[Person]] = {name: [] for name in counts}
    for name, user, operations, before, users in source.rows("people", at_most=TOP):
        counts[name] = users
        top[name].append(Person(user, operations, before))
    return People(counts, top)


def _reconciliation(source: Source, days: Sequence[date]) -> list[dict[str, Any]]:
    """By measure and class, in the order in which classes are tried."""
    source.bind(RECONCILIATION.name, RECONCILIATION, days)
    rows = source.con.sql(engine.sql("reconciliation_summary")).to_arrow_table().to_pylist()
    return sorted(rows, key=lambda row: (row["measure"], CLASSES.index(row["class"])))
