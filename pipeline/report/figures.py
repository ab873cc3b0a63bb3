"""What the lake holds of a report's period, as plain numbers.

Belongs here: the inputs of `sql/report_*.sql`, and what is known of each local day. Unknown is
None, never 0: a measure that the API does not report, a day that is not loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby, product
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.buckets import buckets, edges, finest
from pipeline.lake.completeness import DISPUTED, of_coverage
from pipeline.lake.schemas import CLASSES, COVERAGE, RECONCILIATION, USAGE, USAGE_DATASETS, Dataset
from pipeline.lake.snapshot import Damage, DamagedError, Snapshot
from pipeline.lake.store import Lake
from pipeline.query.reconciliation import summary
from pipeline.report.period import LONGEST, Period, local_day, starts_at
from pipeline.timeline import DAY, SECONDS, Window, day_window

Knowledge = Literal["final", "provisional", "in part", "disputed", "missing"]
Measure = Literal["operations", "items", "conversations"]
MEASURES: Final[tuple[Measure, ...]] = ("operations", "items", "conversations")

DEFAULT_DAYS: Final = 28
"""Whole weeks, so that the period before has the same weekdays."""
TOP: Final = 10
_LAST_YEAR: Final = 9998
_EPOCH: Final = date(1970, 1, 1).toordinal()
_WHOLE: Final = {"final", "provisional"}
"""What is known of a day that is loaded to its end."""


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
    users: Ranking
    keys: Ranking
    week: list[Cell]
    people: People
    history: int
    """UTC days loaded before the period: who has no usage there is new."""
    reconciliation: list[dict[str, Any]]
    reconciled: int
    """UTC days that are reconciled."""
    damage: Sequence[Damage]
    """Files that are left out, since they are not what was published: their days are missing."""

    def known(self, state: Knowledge) -> list[date]:
        """The days of the period of which this is known."""
        return [day for day in self.period.days if self.days[day] == state]


def read(lake: Lake, first: date | None, last: date | None, zone: ZoneInfo) -> Figures:
    """The figures of the local days from `first` through `last`.

    By default the last 28 complete days, or as many as there are. PeriodError where the days make
    no period, NothingToReportError where none of them is loaded.
    """
    with closing(engine.connect()) as con:
        source = _Source(con, lake)
        if not source.days:
            damage = source.snapshot.damage
            raise NothingToReportError(
                f"{lake.root} cannot be read: {DamagedError(damage)}"
                if damage
                else f"nothing is loaded in {lake.root}: load days with `mka1-usage run`"
            )
        return _read(source, _period(source, first, last, zone))


class _Source:
    """The files of usage, each day's in one version, and a connection to read them with."""

    def __init__(self, con: duckdb.DuckDBPyConnection, lake: Lake) -> None:
        self.con = con
        self.snapshot = Snapshot(lake, names=(*USAGE_DATASETS, COVERAGE.name, RECONCILIATION.name))
        self.days = [
            day
            for day in self.snapshot.days(USAGE["1d"].name)
            if not any(self.snapshot.is_damaged(name, day) for name in USAGE_DATASETS)
        ]
        """The days that are loaded: none of which a table of usage is damaged."""

    def bind(self, name: str, dataset: Dataset, days: Iterable[date]) -> None:
        files = self.snapshot.files(dataset.name, set(days).intersection(self.days))
        engine.bind(self.con, {name: (dataset, files)})

    def rows(self, query: str, **params: object) -> list[tuple[Any, ...]]:
        """The rows of `sql/report_<query>.sql`."""
        return self.con.sql(engine.sql(f"report_{query}"), params=params).fetchall()

    def known(self, days: Iterable[date]) -> _Hours:
        """What coverage says of the hours of these days."""
        self.snapshot.bind_coverage(self.con, set(days).intersection(self.days))
        found = self.rows("coverage", dataset=USAGE["1h"].name)
        disputed = {start for start, status, _ in found if status == DISPUTED}
        through = {start: through for start, _, through in found if through is not None}
        return _Hours(
            through | {start: start + SECONDS["1h"] for start in disputed},
            {start for start, status, _ in found if status == "final"},
            disputed,
        )


class _Hours(NamedTuple):
    """What is known of UTC hours: through when each is loaded, and which are final or disputed."""

    through: dict[int, int]
    final: set[int]
    disputed: set[int]

    def loaded(self, span: Window) -> int:
        """Seconds of `span` that are loaded."""
        return sum(
            max(0, min(self.through.get(hour, hour), span.end) - max(hour, span.start))
            for hour in _hours_of(span)
        )

    def knowledge(self, *spans: Window) -> Knowledge:
        """What is known of a local day, or of several hours together."""
        loaded = sum(map(self.loaded, spans))
        hours = {hour for span in spans for hour in _hours_of(span)}
        if not loaded:
            return "missing"
        if hours & self.disputed:
            return "disputed"
        if loaded < sum(span.end - span.start for span in spans):
            return "in part"
        return "final" if hours <= self.final else "provisional"


def _hours_of(span: Window) -> range:
    whole = span.widened("1h")
    return range(whole.start, whole.end, SECONDS["1h"])


def _period(source: _Source, first: date | None, last: date | None, zone: ZoneInfo) -> Period:
    """The days that were asked for, or the default. Raises PeriodError."""
    if last is None:
        last = _last_whole_day(source, zone)
        if first is not None and last < first:
            last = first
    if first is None:
        begins = day_window(source.days[0]).start
        earliest = local_day(begins, zone)
        if starts_at(earliest, zone) < begins:
            earliest += timedelta(days=1)  # west of Greenwich a UTC day begins in mid-day
        first = max(last - timedelta(days=DEFAULT_DAYS - 1), min(earliest, last))
    if last < first:
        raise PeriodError(f"the period ends before it begins: {first} to {last}")
    if last.year > _LAST_YEAR:
        raise PeriodError(f"{last} is too far in the future: no day after {_LAST_YEAR} is known")
    if (last - first).days >= LONGEST:
        raise PeriodError(
            f"{first} to {last} is more than {LONGEST:,} days: ask for less at a time"
        )
    return Period(first, last, zone)


def _last_whole_day(source: _Source, zone: ZoneInfo) -> date:
    """The last local day that is loaded to its end; the last of which anything is, if none is."""
    newest = source.days[-1]
    known = source.known(day for day in source.days if (newest - day).days <= 2)
    last = local_day(max(known.through.values(), default=day_window(newest).end) - 1, zone)
    for day in (last, last - timedelta(days=1)):
        if known.knowledge(Period(day, day, zone).window) in _WHOLE:
            return day
    return last


def _read(source: _Source, period: Period) -> Figures:
    before, start = period.before, period.window.start
    known = source.known(Window(before.window.start, period.window.end).days)
    days = {day: known.knowledge(one.of(day)) for one in (before, period) for day in one.days}
    if all(days[day] == "missing" for day in period.days):
        end = period.last + timedelta(days=1)
        raise NothingToReportError(
            f"no day of {period.first} to {period.last} is loaded: load them with "
            f"`mka1-usage run --start {period.first} --end {end}`, or ask for days from "
            f"{source.days[0]} to {source.days[-1]}"
        )
    paired = _paired(period, days)
    hours = _bind(source, period, paired)
    history = [day for day in source.days if day_window(day).end <= start]
    source.bind("usage_1d", USAGE["1d"], history)
    compared = None
    if paired:
        this, prior = (_totals(source, name, paired=True) for name in ("this", "before"))
        compared = Compared(len(paired), this, prior)
    asked = set(period.window.days)
    reconciled = [day for day in source.snapshot.days(RECONCILIATION.name) if day in asked]
    return Figures(
        period=period,
        totals=_totals(source, "this"),
        bars=_bars(source, period, hours, known, paired, history=bool(history)),
        compared=compared,
        days=days,
        users=_ranking(source, by_user=True, compared=bool(paired)),
        keys=_ranking(source, by_user=False, compared=bool(paired)),
        week=_week(source, hours, known),
        people=_people(source),
        history=len(history),
        reconciliation=_reconciliation(source, reconciled),
        reconciled=len(reconciled),
        damage=source.snapshot.damage,
        through=_through(source),
    )


def _through(source: _Source) -> int:
    source.snapshot.bind_coverage(source.con, source.days)
    through = of_coverage(source.con).through
    return day_window(source.days[0]).start if through is None else through


def _paired(period: Period, days: Mapping[date, Knowledge]) -> set[date]:
    """The days of the period that are compared: loaded whole, as is their day in the one before.

    None where that is less than half of them: a part would pass for the whole.
    """
    gone = timedelta(days=period.length)
    pairs = {day for day in period.days if {days[day], days.get(day - gone)} <= _WHOLE}
    return pairs if 2 * len(pairs) >= len(period.days) else set()


class _Hour(NamedTuple):
    """A local hour, what a clock shows as it begins, and when the bar that it is in begins."""

    span: Window
    shown: datetime
    bar: datetime


def _bind(source: _Source, period: Period, paired: set[date]) -> list[_Hour]:
    """Make `hours` what report_hours gives; returns the local hours of the period."""
    con, before, start = source.con, period.before.window.start, period.window.start
    # Who is new on the first day may have come earlier in that UTC day, which no other has.
    whole = Window(min(before, start // DAY * DAY), period.window.end)
    spans = buckets(con, whole, "1h", period.zone.key)
    source.bind("usage_rows", USAGE[finest(spans)], Window(spans[0].start, spans[-1].end).days)
    con.register("edges", edges(spans))
    con.execute(f"CREATE OR REPLACE TEMP VIEW usage AS {engine.sql('usage_by')}")
    compared = paired | {day - timedelta(days=period.length) for day in paired}
    found: list[_Hour] = []
    slots: list[dict[str, object]] = []
    for span in spans:
        shown = datetime.fromtimestamp(span.start, period.zone)
        name, bar = "earlier", shown
        if span.start >= before:
            name, bar = "before", period.bar_of(shown)
        if span.start >= start:
            name = "this"
            found.append(_Hour(span, shown, bar))
        slots.append(
            {
                "slot": span.start,
                "period": name,
                "paired": shown.date() in compared,
                "unit": hour_number(bar),
                "weekday": shown.isoweekday(),
                "hour": shown.hour,
            }
        )
    con.register("slots", pa.Table.from_pylist(slots))
    con.register("hours", con.sql(engine.sql("report_hours")).to_arrow_table())
    return found


def _totals(source: _Source, period: str, *, paired: bool = False) -> Totals:
    [(*counts, rows, users, keys)] = source.rows("totals", period=period, paired_only=paired)
    return Totals(Counts(*counts) if rows else Counts(0, 0, 0), users, keys)


def _bars(
    source: _Source,
    period: Period,
    hours: Iterable[_Hour],
    known: _Hours,
    paired: set[date],
    *,
    history: bool,
) -> list[Bar]:
    none = (Counts(0, 0, 0), 0)
    counted = {
        (name, unit): (Counts(*counts), users)
        for name, unit, *counts, users in source.rows("units")
    }
    new = dict(source.rows("arrivals"))
    # Beside another weekday a day says nothing.
    weekdays_match = period.unit == "day" and period.length % 7 == 0
    bars: list[Bar] = []
    for begins, group in groupby(sorted(hours, key=attrgetter("bar")), key=attrgetter("bar")):
        members = list(group)
        state = known.knowledge(*(one.span for one in members))
        counts, users = counted.get(("this", hour_number(begins)), none)
        before = ("before", hour_number(begins - timedelta(days=period.length)))
        bar = Bar(
            first=max(begins, datetime.combine(period.first, time())),
            end=_end_of(period, members[-1].shown),
            known=state,
            counts=counts,
            users=users,
            new_users=new.get(hour_number(begins), 0) if history else None,
            before=counted.get(before, none)[0]
            if weekdays_match and begins.date() in paired
            else None,
        )
        if state == "missing":
            bar = bar._replace(counts=None, users=None, new_users=None)
        bars.append(bar)
    return bars


def _end_of(period: Period, last: datetime) -> datetime:
    """When a bar ends whose last hour begins at `last`."""
    hour = last.replace(minute=0, second=0, tzinfo=None)
    if period.unit == "hour":
        return hour + timedelta(hours=1)
    return hour.replace(hour=0) + timedelta(days=1)


def hour_number(shown: datetime) -> int:
    """The number of an hour on a clock that is never moved, since 1970."""
    return (shown.toordinal() - _EPOCH) * 24 + shown.hour


def _ranking(source: _Source, *, by_user: bool, compared: bool) -> Ranking:
    rows = source.rows("ranking", by_user=by_user, at_most=TOP)
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


def _week(source: _Source, hours: Iterable[_Hour], known: _Hours) -> list[Cell]:
    asked, loaded = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for one in hours:
        place = one.shown.isoweekday(), one.shown.hour
        asked[place] += one.span.end - one.span.start
        loaded[place] += known.loaded(one.span)
    used = {(weekday, hour): operations for weekday, hour, operations in source.rows("week")}
    width = SECONDS["1h"]
    return [
        Cell(*place, used.get(place, 0), asked[place] / width, loaded[place] / width)
        for place in product(range(1, 8), range(24))
    ]


def _people(source: _Source) -> People:
    counts = dict.fromkeys(("new", "kept", "back", "lapsed"), 0)
    top: dict[str, list[Person]] = {name: [] for name in counts}
    for name, user, operations, before, users in source.rows("people", at_most=TOP):
        counts[name] = users
        top[name].append(Person(user, operations, before))
    return People(counts, top)


def _reconciliation(source: _Source, days: Sequence[date]) -> list[dict[str, Any]]:
    """By measure and class, in the order in which classes are tried."""
    rows = summary(source.con, source.snapshot, days).to_pylist() if days else []
    return sorted(rows, key=lambda row: (row["measure"], CLASSES.index(row["class"])))
