"""How much of each budget is used at a moment, and where its period is heading.

Belongs here: which rows count for a budget, and how much of its period is known. What is not loaded
is no usage of zero: a state says how much of the period so far is loaded, and of how many
responses the amount is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from decimal import Context, Decimal, localcontext
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa

from pipeline.lake import catalog, engine, user_id_mode
from pipeline.lake.buckets import buckets, edges
from pipeline.lake.schemas import COVERAGE, TOKENS, USAGE
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.pricing.budgets import WIDTHS, Budget, Measure
from pipeline.pricing.costs import bind_costs, bind_tokens
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import PriceList
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import SECONDS, Window, closed_through

TABLES: Final[dict[Measure, str]] = {
    "operations": USAGE["1m"].name,
    "tokens": TOKENS["1m"].name,
    "cost": TOKENS["1m"].name,
}
"""What each measure is counted from."""
NAMES: Final = (*sorted({*TABLES.values()}), COVERAGE.name)
"""The tables of a snapshot that budgets are read from."""
_LEAST_KNOWN: Final = SECONDS["1h"]
"""Seconds that have to be loaded for a direction to be seen."""
_ROWS: Final = {
    "operations": (
        "SELECT start_time, user_id, api_key_id, "
        "CAST(num_operations AS DECIMAL(38, 15)) AS amount, "
        "CASE WHEN num_operations IS NULL THEN 1 ELSE 0 END AS num_unknown FROM usage_rows"
    ),
    # In all, where that is reported; else what is: either, or both.
    "tokens": (
        "SELECT start_time, user_id, api_key_id, CAST(COALESCE(total_tokens, "
        "input_tokens + COALESCE(output_tokens, 0), output_tokens) AS DECIMAL(38, 15)) AS amount, "
        "CASE WHEN COALESCE(total_tokens, input_tokens, output_tokens) IS NULL "
        "THEN num_responses ELSE 0 END AS num_unknown FROM tokens_rows"
    ),
}
_COSTS: Final = (
    "SELECT costs.start_time, costs.end_time, costs.user_id, costs.api_key_id, "
    "COALESCE(users.team_id, api_keys.team_id) AS team_id, costs.cost AS amount, "
    "costs.num_unpriced AS num_unknown FROM costs "
    "LEFT JOIN names AS users ON users.kind = 'user' AND costs.user_id = users.id "
    "LEFT JOIN names AS api_keys ON api_keys.kind = 'key' AND costs.api_key_id = api_keys.id"
)
_EXACT: Final = Context(prec=60)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in its period of a moment. The id is that of the lake: a pseudonym, where it has
    those."""

    budget: Budget
    period: Window
    through: int
    """Usage before this moment is counted (Unix seconds)."""
    used: Decimal | None
    """What is known to be used; None where nothing is known."""
    unknown: int
    """Responses, or rows of usage, of which the amount is unknown: they are used beside that."""
    loaded: int
    """So many seconds of the period so far are loaded."""

    @property
    def elapsed(self) -> int:
        """Seconds of the period so far."""
        return self.through - self.period.start

    @property
    def left(self) -> Decimal | None:
        """What is not used of the amount; negative where more is used."""
        return None if self.used is None else self.budget.amount - self.used

    @property
    def percent(self) -> Decimal | None:
        """How much of the amount is used."""
        if self.used is None:
            return None
        with localcontext(_EXACT):
            return 100 * self.used / self.budget.amount

    @property
    def heading_for(self) -> Decimal | None:
        """What the whole period comes to if all of it is as what is loaded; None where less than an
        hour is."""
        if self.used is None or self.loaded < _LEAST_KNOWN:
            return None
        with localcontext(_EXACT):
            return self.used * (self.period.end - self.period.start) / self.loaded

    @property
    def ends_at(self) -> int | None:
        """When all of it is used, if it goes on like that (Unix seconds).

        None where the period ends before, where it is used already, and where that is not known.
        """
        if self.used is None or not 0 < self.used < self.budget.amount:
            return None
        if self.loaded < _LEAST_KNOWN:
            return None
        with localcontext(_EXACT):
            seconds = (self.budget.amount - self.used) * self.loaded / self.used
        ends = self.through + int(seconds)
        return ends if ends < self.period.end else None

    @property
    def reached(self) -> list[int]:
        """The thresholds that are reached, in percent, the lowest first."""
        percent = self.percent
        return [it for it in self.budget.thresholds if percent is not None and percent >= it]


def budget_states(
    snapshot: Snapshot,
    lake: Lake,
    budgets: Sequence[Budget],
    prices: PriceList,
    at: float,
    pseudonyms: Pseudonyms | None = None,
    *,
    through: int | None = None,
    names: pa.Table | None = None,
) -> list[BudgetState]:
    """The state of each budget at a moment (Unix seconds), in the order of `budgets`.

    Usage before `through` is counted, by default through the last minute that is closed then.
    `names` (`catalog.NAMES`, by the lake's own ids) says who is in which team. UserIdModeError
    where the lake has another kind of user ids than `pseudonyms`, HandWrittenError for a budget of
    a team that nobody is in: it would seem not to be used.
    """
    if any(budget.scope in {"user", "team"} for budget in budgets):
        user_id_mode.check(lake, pseudonyms.fingerprint if pseudonyms else None)
    names = catalog.NAMES.empty_table() if names is None else names
    _check_teams(budgets, names)
    called = {(it["kind"], it["id"]): it["name"] for it in names.to_pylist()}
    through = closed_through(at) if through is None else through
    with closing(engine.connect(lake)) as con:
        con.register("names", names)
        asked = [
            _Asked(
                number,
                _named(_as_stored(it, pseudonyms), called),
                period,
                Window(period.start, through),
            )
            for number, it in enumerate(budgets)
            for period in [_period(con, it, int(at))]
        ]
        states: dict[int, BudgetState] = {}
        for measure, name in TABLES.items():
            of_measure = [it for it in asked if it.budget.measure == measure]
            spans = sorted({it.span for it in of_measure if it.span.start < it.span.end})
            days = sorted({day for it in spans for day in it.among(list(snapshot.versions))})
            used = _used(con, snapshot, measure, of_measure, spans, days, prices) if spans else {}
            hours = _loaded_hours(con, snapshot, name, days)
            for it in of_measure:
                states[it.number] = _state(it, used.get(it.number), _overlap(hours, it.span))
    return [states[number] for number in range(len(budgets))]


class _Asked(NamedTuple):
    """A budget with its place among all, its period, and the part of that which is counted."""

    number: int
    budget: Budget
    period: Window
    span: Window


def _as_stored(budget: Budget, pseudonyms: Pseudonyms | None) -> Budget:
    if budget.scope != "user" or pseudonyms is None:
        return budget
    return replace(budget, id=pseudonyms.of(budget.id))


def _named(budget: Budget, called: Mapping[tuple[str, str], str | None]) -> Budget:
    kinds = ("team", "cost_centre") if budget.scope == "team" else (budget.scope,)
    found = (called.get((kind, budget.id)) for kind in kinds)
    return replace(budget, name=next((name for name in found if name), None))


def _check_teams(budgets: Sequence[Budget], names: pa.Table) -> None:
    teams = {*names["team_id"].to_pylist()}
    for budget in budgets:
        if budget.scope == "team" and budget.id not in teams:
            raise HandWrittenError(
                f"the budget in line {budget.line} is of team {budget.id!r}, which nobody is in: "
                "give users or keys that team in names.csv"
            )


def _period(con: duckdb.DuckDBPyConnection, budget: Budget, at: int) -> Window:
    [period] = buckets(con, Window(at, at + 1), WIDTHS[budget.period], budget.tz)
    return period


def _used(
    con: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    measure: Measure,
    asked: Sequence[_Asked],
    spans: Sequence[Window],
    days: Sequence[date],
    prices: PriceList,
) -> dict[int, tuple[Decimal | None, int]]:
    """By number, what is used, and of how many the amount is unknown; of budgets with any usage."""
    numbers = pa.array([it.number for it in asked], pa.int64())
    texts = {
        "scope": pa.array([it.budget.scope for it in asked], pa.string()),
        "id": pa.array([it.budget.id for it in asked], pa.string()),
    }
    con.register(
        "asked",
        pa.table({"number": numbers, **_columns(edges([it.span for it in asked])), **texts}),
    )
    if measure == "cost":
        bind_costs(con, snapshot, prices.table, spans)
        con.execute(f"CREATE OR REPLACE TEMP VIEW amounts AS {_COSTS}")
    else:
        if measure == "operations":
            engine.bind(con, {"usage_rows": (USAGE["1m"], snapshot.files(USAGE["1m"].name, days))})
        else:
            bind_tokens(con, snapshot, days, "observed")
        con.register("edges", edges(spans))
        con.execute(f"CREATE OR REPLACE TEMP VIEW amount_rows AS {_ROWS[measure]}")
        con.execute(f"CREATE OR REPLACE TEMP VIEW amounts AS {engine.sql('amounts_by')}")
    rows = con.execute(engine.sql("budgets_used")).fetchall()
    return {number: (used, unknown) for number, used, unknown in rows}


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _loaded_hours(
    con: duckdb.DuckDBPyConnection, snapshot: Snapshot, name: str, days: Sequence[date]
) -> list[Window]:
    snapshot.bind_coverage(con, days)
    rows = con.execute(engine.sql("loaded_hours"), {"dataset": name}).fetchall()
    return [Window(start, max(start, through)) for start, through in rows]


def _overlap(hours: Sequence[Window], span: Window) -> int:
    """Seconds of a span that lie in these hours."""
    return sum(max(0, min(it.end, span.end) - max(it.start, span.start)) for it in hours)


def _state(asked: _Asked, used: tuple[Decimal | None, int] | None, loaded: int) -> BudgetState:
    # Without a row nothing was used, if anything is loaded at all.
    amount, unknown = used or (Decimal(0) if loaded else None, 0)
    return BudgetState(asked.budget, asked.period, asked.span.end, amount, unknown, loaded)
