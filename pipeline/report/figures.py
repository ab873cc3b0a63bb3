"""What the lake holds of a report's period, as plain numbers.

Belongs here: which files are read, how the queries in `sql/report_*.sql` are given their inputs,
and what is known of each local day.

Unknown is None, never 0: a measure that the API does not report, a day that is not loaded, a
comparison that cannot be made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.buckets import buckets, edges, finest
from pipeline.lake.completeness import DISPUTED, of_coverage
from pipeline.lake.schemas import CLASSES, COVERAGE, RECONCILIATION, USAGE, USAGE_DATASETS
from pipeline.lake.snapshot import Damage, DamagedError, Snapshot
from pipeline.lake.store import Lake
from pipeline.query.reconciliation import summary
from pipeline.report.period import LONGEST, Period, local_day, starts_at
from pipeline.timeline import DAY, SECONDS, Window, day_window

Knowledge = Literal["final", "provisional", "in part", "disputed", "missing"]
Measure = Literal["operations", "items", "conversations"]
MEASURES: Final[tuple[Measure, ...]] = ("operations", "items", "conversations")

_READ: Final = (*USAGE_DATASETS, COVERAGE.name, RECONCILIATION.name)
"""What a report is made of."""

DEFAULT_DAYS: Final = 28
"""Whole weeks, so that the period before has the same weekdays."""
TOP: Final = 10
_LAST_YEAR: Final = 9998
_EPOCH: Final = date(1970, 1, 1).toordinal()


class NothingToReportError(Exception):
    """There is nothing loaded of what was asked for. The message says what to do."""


class PeriodError(ValueError):
    """The days that were asked for make no period. The message says why."""


class Counts(NamedTuple):
    """The measures; None where nobody reports one."""

    conversations: int | None
    items: int | None
    operations: int | None

    def of(self, measure: Measure) -> int | None:
        """The number of a measure, by its name."""
        return {"operations": self.operations, "items": self.items}.get(measure, self.conversations)


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
    """An hour of the week: operations in all, and how many such hours the period has and are
    loaded."""

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
    """How many users are new, kept, back and lapsed, and the most active of each."""

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
    reconciliation: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    reconciled: int = 0
    """UTC days that are reconciled."""
    damage: Sequence[Damage] = ()
    """Files that are left out, since they are not what was published: their days are missing."""

    def known(self, *states: Knowledge) -> list[date]:
        """The days of the period of which this is known."""
        return [day for day in self.period.days if self.days[day] in states]


def read(lake: Lake, first: date | None, last: date | None, zone: ZoneInfo) -> Figures:
    """The figures of the local days from `first` through `last`.

    By default the last 28 complete days, or as many as there are. PeriodError where the days make
    no period, NothingToReportError where none of them is loaded.
    """
    source = _Source(lake)
    if not source.days and source.damage:
        raise NothingToReportError(f"{lake.root} cannot be read: {DamagedError(source.damage)}")
    if not source.days:
        raise NothingToReportError(
            f"nothing is loaded in {lake.root}: load days with `mka1-usage run`"
        )
    with closing(engine.connect()) as con:
        period = _period(con, source, first, last, zone)
        return _read(con, lake, source, period)


class _Source:
    """The files of usage, each day's in one version: whatever runs publish meanwhile."""

    def __init__(self, lake: Lake) -> None:
        self.snapshot = Snapshot(lake, names=_READ)
        self.days = [
            day
            for day in self.snapshot.days(USAGE["1d"].name)
            if not any(self.snapshot.is_damaged(name, day) for name in USAGE_DATASETS)
        ]
        """The days that are loaded: none of which a table of usage is damaged."""
        self.damage = self.snapshot.damage

    def files(self, name: str, days: Iterable[date]) -> list[Path]:
        return self.snapshot.files(name, set(days).intersection(self.days))

    def bind_coverage(self, con: duckdb.DuckDBPyConnection, days: Iterable[date]) -> None:
        self.snapshot.bind_coverage(con, set(days).intersection(self.days))

    def reconciled(self, days: Collection[date]) -> list[date]:
        return [day for day in self.snapshot.days(RECONCILIATION.name) if day in days]


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

    def knowledge(self, span: Window) -> Knowledge:
        """What is known of a local day."""
        loaded = self.loaded(span)
        if not loaded:
            return "missing"
        if not self.disputed.isdisjoint(_hours_of(span)):
            return "disputed"
        if loaded < span.end - span.start:
            return "in part"
        return "final" if all(hour in self.final for hour in _hours_of(span)) else "provisional"


def _hours_of(span: Window) -> range:
    whole = span.widened("1h")
    return range(whole.start, whole.end, SECONDS["1h"])


def _known(con: duckdb.DuckDBPyConnection, source: _Source, days: Iterable[date]) -> _Hours:
    source.bind_coverage(con, days)
    found = con.sql(engine.sql("report_coverage"), params={"dataset": USAGE["1h"].name}).fetchall()
    disputed = {start for start, status, _ in found if status == DISPUTED}
    through = {start: through for start, _, through in found if through is not None}
    return _Hours(
        through | {start: start + SECONDS["1h"] for start in disputed},
        {start for start, status, _ in found if status == "final"},
        disputed,
    )


def _period(
    con: duckdb.DuckDBPyConnection,
    source: _Source,
    first: date | None,
    last: date | None,
    zone: ZoneInfo,
) -> Period:
    """The days that were asked for, or those that are meant by default."""
    if last is None:
        last = _last_whole_day(con, source, zone)
        if first is not None and last < first:
            last = first
    if first is None:
        first = last - timedelta(days=DEFAULT_DAYS - 1)
        earliest = local_day(day_window(min(source.days)).start, zone)
        if starts_at(earliest, zone) < day_window(min(source.days)).start:
            earliest += timedelta(days=1)  # west of Greenwich a UTC day begins in mid-day
        first = max(first, min(earliest, last))
    if last < first:
        raise PeriodError(f"the period ends before it begins: {first} to {last}")
    if last.year > _LAST_YEAR:
        raise PeriodError(f"{last} is too far in the future: no day after {_LAST_YEAR} is known")
    if (last - first).days >= LONGEST:
        raise PeriodError(
            f"{first} to {last} is more than {LONGEST:,} days: ask for less at a time"
        )
    return Period(first, last, zone)


def _last_whole_day(con: duckdb.DuckDBPyConnection, source: _Source, zone: ZoneInfo) -> date:
    """The last local day that is loaded to its end; the last of which anything is, if none is."""
    newest = max(source.days)
    recent = [day for day in source.days if (newest - day).days <= 2]
    known = _known(con, source, recent)
    last = local_day(max(known.through.values(), default=day_window(newest).end) - 1, zone)
    for day in (last, last - timedelta(days=1)):
        span = Window(starts_at(day, zone), starts_at(day + timedelta(days=1), zone))
        if known.knowledge(span) in {"final", "provisional"}:
            return day
    return last


def _read(con: duckdb.DuckDBPyConnection, lake: Lake, source: _Source, period: Period) -> Figures:
    before = period.before
    both = Window(before.window.start, period.window.end)
    known = _known(con, source, both.days)
    days = {day: known.knowledge(one.of(day)) for one in (before, period) for day in one.days}
    if all(days[day] == "missing" for day in period.days):
        end = period.last + timedelta(days=1)
        raise NothingToReportError(
            f"no day of {period.first} to {period.last} is loaded: load them with "
            f"`mka1-usage run --start {period.first} --end {end}`, or ask for days from "
            f"{min(source.days)} to {max(source.days)}"
        )
    paired = _paired(period, days)
    hours = _bind(con, source, period, paired)
    history = [day for day in source.days if day_window(day).end <= period.window.start]
    engine.bind(con, {"usage_1d": (USAGE["1d"], source.files("usage_1d", history))})
    compared = None
    if paired:
        compared = Compared(
            len(paired), _totals(con, "this", paired=True), _totals(con, "before", paired=True)
        )
    asked = set(period.window.days)
    reconciled = source.reconciled(asked)
    return Figures(
        period=period,
        totals=_totals(con, "this"),
        bars=_bars(con, period, hours, known, paired, history=bool(history)),
        compared=compared,
        days=days,
        through=_through(con, source),
        users=_ranking(con, by_user=True, compared=bool(paired)),
        keys=_ranking(con, by_user=False, compared=bool(paired)),
        week=_week(con, hours, known),
        people=_people(con),
        history=len(history),
        reconciliation=_reconciliation(con, source, reconciled),
        reconciled=len(reconciled),
        damage=source.damage,
    )


def _through(con: duckdb.DuckDBPyConnection, source: _Source) -> int:
    source.bind_coverage(con, source.days)
    through = of_coverage(con).through
    return day_window(min(source.days)).start if through is None else through


def _paired(period: Period, days: Mapping[date, Knowledge]) -> set[date]:
    """The days of the period that are compared: loaded whole, as is their day in the one before.

    None where that is less than half of them: a part would pass for the whole.
    """
    whole = {"final", "provisional"}
    gone = timedelta(days=period.length)
    pairs = {
        day
        for day in period.days
        if days[day] in whole and days.get(day - gone, "missing") in whole
    }
    return pairs if 2 * len(pairs) >= len(period.days) else set()


class _Hour(NamedTuple):
    """A local hour, what a clock shows as it begins, and when the bar that it is in begins."""

    span: Window
    shown: datetime
    bar: datetime


_SLOTS: Final = pa.schema(
    [
        ("slot", pa.int64()),
        ("period", pa.string()),
        ("paired", pa.bool_()),
        ("unit", pa.int64()),
        ("weekday", pa.int64()),
        ("hour", pa.int64()),
    ]
)


def _bind(
    con: duckdb.DuckDBPyConnection, source: _Source, period: Period, paired: set[date]
) -> list[_Hour]:
    """Make `hours` what report_hours gives; returns the local hours of the period."""
    before, start = period.before, period.window.start
    # Who is new on the first day may have come earlier in that UTC day, which no other has.
    whole = Window(min(before.window.start, start // DAY * DAY), period.window.end)
    spans = buckets(con, whole, "1h", period.zone.key)
    width = USAGE[finest(spans)]
    days = Window(spans[0].start, spans[-1].end).days
    engine.bind(con, {"usage_rows": (width, source.files(width.name, days))})
    con.register("edges", edges(spans))
    con.execute(f"CREATE OR REPLACE TEMP VIEW usage AS {engine.sql('usage_by')}")
    gone = timedelta(days=period.length)
    compared = paired | {day - gone for day in paired}
    found: list[_Hour] = []
    rows: list[dict[str, object]] = []
    for span in spans:
        shown = datetime.fromtimestamp(span.start, period.zone)
        name, bar = "earlier", shown.replace(tzinfo=None)
        if span.start >= start:
            name, bar = "this", period.bar_of(shown)
            found.append(_Hour(span, shown, bar))
        elif span.start >= before.window.start:
            name, bar = "before", period.bar_of(shown)
        rows.append(
            {
                "slot": span.start,
                "period": name,
                "paired": shown.date() in compared,
                "unit": _number(bar),
                "weekday": shown.isoweekday(),
                "hour": shown.hour,
            }
        )
    con.register("slots", pa.Table.from_pylist(rows, schema=_SLOTS))
    con.register("hours", con.sql(engine.sql("report_hours")).to_arrow_table())
    return found


def _totals(con: duckdb.DuckDBPyConnection, period: str, *, paired: bool = False) -> Totals:
    params = {"period": period, "paired_only": paired}
    row = con.sql(engine.sql("report_totals"), params=params).fetchall()[0]
    conversations, items, operations, rows, users, keys = row
    counts = Counts(conversations, items, operations) if rows else Counts(0, 0, 0)
    return Totals(counts, users, keys)


def _bars(
    con: duckdb.DuckDBPyConnection,
    period: Period,
    hours: Sequence[_Hour],
    known: _Hours,
    paired: set[date],
    *,
    history: bool,
) -> list[Bar]:
    none = (Counts(0, 0, 0), 0)
    counted = {
        (name, unit): (Counts(conversations, items, operations), users)
        for name, unit, conversations, items, operations, users in con.sql(
            engine.sql("report_units")
        ).fetchall()
    }
    new = dict(con.sql(engine.sql("report_arrivals")).fetchall())
    gone = timedelta(days=period.length)
    bars: list[Bar] = []
    for begins, group in groupby(sorted(hours, key=lambda one: one.bar), key=lambda one: one.bar):
        members = list(group)
        state = _known_of(members, known)
        there = state != "missing"
        counts, users = counted.get(("this", _number(begins)), none)
        # Beside another weekday a day says nothing.
        is_compared = period.unit == "day" and period.length % 7 == 0 and begins.date() in paired
        bars.append(
            Bar(
                first=max(begins, datetime.combine(period.first, time())),
                end=_end_of(period, members[-1].shown),
                known=state,
                counts=counts if there else None,
                users=users if there else None,
                new_users=new.get(_number(begins), 0) if there and history else None,
                before=counted.get(("before", _number(begins - gone)), none)[0]
                if is_compared
                else None,
            )
        )
    return bars


def _end_of(period: Period, last: datetime) -> datetime:
    """When a bar ends whose last hour begins at `last`."""
    hour = last.replace(minute=0, second=0, tzinfo=None)
    if period.unit == "hour":
        return hour + timedelta(hours=1)
    return hour.replace(hour=0) + timedelta(days=1)


def _known_of(hours: Sequence[_Hour], known: _Hours) -> Knowledge:
    """What is known of a bar."""
    return _worst([known.knowledge(one.span) for one in hours])


def _number(shown: datetime) -> int:
    """The number of an hour on a clock that is never moved, since 1970."""
    return (shown.toordinal() - _EPOCH) * 24 + shown.hour


def _worst(known: Sequence[Knowledge]) -> Knowledge:
    """What is known of days together."""
    found = set(known)
    if found == {"missing"}:
        return "missing"
    if "disputed" in found:
        return "disputed"
    if found & {"missing", "in part"}:
        return "in part"
    return "provisional" if "provisional" in found else "final"


def _ranking(con: duckdb.DuckDBPyConnection, *, by_user: bool, compared: bool) -> Ranking:
    params = {"by_user": by_user, "at_most": TOP}
    rows = con.sql(engine.sql("report_ranking"), params=params).fetchall()
    top = [
        Ranked(
            id=name,
            counts=Counts(conversations, items, operations),
            compared=(now or 0) if compared else None,
            before=(before or 0) if compared else None,
        )
        for name, conversations, items, operations, now, before, _ in rows
    ]
    return Ranking(top, rows[0][-1] if rows else 0)


def _week(con: duckdb.DuckDBPyConnection, hours: Sequence[_Hour], known: _Hours) -> list[Cell]:
    asked = dict.fromkeys(((day, hour) for day in range(1, 8) for hour in range(24)), 0)
    loaded = dict(asked)
    for one in hours:
        place = one.shown.isoweekday(), one.shown.hour
        asked[place] += one.span.end - one.span.start
        loaded[place] += known.loaded(one.span)
    used = {
        (weekday, hour): operations
        for weekday, hour, operations in con.sql(engine.sql("report_week")).fetchall()
    }
    return [
        Cell(*place, used.get(place, 0), seconds / SECONDS["1h"], loaded[place] / SECONDS["1h"])
        for place, seconds in asked.items()
    ]


def _people(con: duckdb.DuckDBPyConnection) -> People:
    counts = dict.fromkeys(("new", "kept", "back", "lapsed"), 0)
    top: dict[str, list[Person]] = {name: [] for name in counts}
    rows = con.sql(engine.sql("report_people"), params={"at_most": TOP}).fetchall()
    for name, user, operations, before, users in rows:
        counts[name] = users
        top[name].append(Person(user, operations, before))
    return People(counts, top)


def _reconciliation(
    con: duckdb.DuckDBPyConnection, source: _Source, days: Sequence[date]
) -> list[dict[str, Any]]:
    """By measure and class, in the order in which classes are tried."""
    if not days:
        return []
    rows: list[dict[str, Any]] = summary(con, source.snapshot, days).to_pylist()
    order = {name: place for place, name in enumerate(CLASSES)}
    return sorted(rows, key=lambda row: (row["measure"], order[row["class"]]))
