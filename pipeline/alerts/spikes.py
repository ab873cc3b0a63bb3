"""A user or key far above its own baseline, by any measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

import duckdb

from pipeline.alerts.alert import Alert, Evaluation, Finding, equals, moment, shown
from pipeline.lake import engine
from pipeline.messages import count
from pipeline.names.file import NOBODY, Names
from pipeline.thresholds import LEAST_DAYS, MOST, Thresholds
from pipeline.timeline import DAY, SECONDS, Width, iso

_COLUMN: Final = {"user": "user_id", "key": "api_key_id"}


@dataclass(frozen=True, slots=True)
class Measure:
    """What spikes are of: how much a row of `counted` has, and how that is said."""

    alert: Alert
    table: str
    """Whose hours must be loaded: the table without its width."""
    asked: str
    """What a finding's query asks: the hours of that table, or what is computed of them."""
    column: str
    """The column that a query adds up."""
    columns: str
    """And those that it shows of a user."""
    word: str
    at_least: Callable[[Thresholds], int]
    amount: str = ""
    """How much a row of `counted` has, in SQL: a 64-bit integer, NULL where it is not known.

    Empty: the view `amounts` is there already."""
    currency: str | None = None
    """Where it is money, in billionths of this."""

    def bare(self, amount: int) -> str:
        """An amount as it stands in a sentence, without what it is of."""
        if self.currency is None:
            return f"{amount:,}"
        return f"{Decimal(amount).scaleb(-9):,.2f} {self.currency}"

    def said(self, amount: int) -> str:
        """And with it."""
        return count(amount, self.word) if self.currency is None else self.bare(amount)


OPERATIONS: Final = Measure(
    alert="spike",
    table="usage",
    asked="usage_1h",
    column="num_operations",
    columns="api_key_id, num_operations",
    word="operation",
    at_least=lambda thresholds: thresholds.spike_operations,
    amount="COALESCE(num_operations, 0)",
)
TOKENS: Final = Measure(
    alert="tokens",
    table="tokens",
    asked="tokens_1h",
    column="total_tokens",
    columns="api_key_id, model, num_responses, total_tokens",
    word="token",
    at_least=lambda thresholds: thresholds.spike_tokens,
    amount="COALESCE(total_tokens, 0)",
)


def cost_in(currency: str) -> Measure:
    """What tokens cost, by a price list in one currency."""
    return Measure(
        alert="cost",
        table="tokens",
        asked="cost_by('1h')",
        column="cost",
        columns="api_key_id, model, num_responses, num_unpriced, currency, cost",
        word="cost",
        at_least=lambda thresholds: int(thresholds.spike_cost.scaleb(9)),
        currency=currency,
    )


class Spike(NamedTuple):
    """A row of `sql/spikes.sql`, without the start of its bucket."""

    kind: str
    id: str | None
    amount: int
    usual: int
    has_usual: bool
    seen_on: int
    num_spans: int


def spikes(
    con: duckdb.DuckDBPyConnection,
    width: Width,
    start: int,
    thresholds: Thresholds,
    measure: Measure = OPERATIONS,
    names: Names = NOBODY,
) -> Evaluation:
    """Who is far above what is usual in the bucket of `width` that starts at `start`.

    `con` has the views `coverage` and `counted`, which is the measure's table of that width, or
    `amounts` where the measure says so.
    """
    params: Mapping[str, Any] = {
        "table_name": f"{measure.table}_1h",
        "first_start": start,
        "last_start": start,
        "days": thresholds.baseline_days,
        "least_days": LEAST_DAYS,
        "times": thresholds.spike_times,
        "at_least": measure.at_least(thresholds),
    }
    if measure.amount:
        rows = f"SELECT start_time, user_id, api_key_id, {measure.amount} AS amount FROM counted"
        con.execute(f"CREATE OR REPLACE TEMP VIEW amounts AS {rows}")
    found = [Spike(*row) for _, *row in con.execute(engine.sql("spikes"), params).fetchall()]
    return Evaluation(
        [_finding(spike, width, start, measure, names) for spike in found[:MOST]],
        len(found[MOST:]),
    )


def _finding(spike: Spike, width: Width, start: int, measure: Measure, names: Names) -> Finding:
    who = shown(spike.id, spike.kind, names.called(spike.kind, spike.id))
    when = f"on {iso(start)[:10]}" if width == "1d" else f"in the hour from {iso(start)}"
    bucket = "day" if width == "1d" else "busiest hour of a day"
    if spike.has_usual:
        compared = (
            f"{spike.amount / spike.usual:,.1f} times its usual {bucket} of "
            f"{measure.bare(spike.usual)} "
            f"(9 of 10 of {count(spike.num_spans, 'day')})"
        )
    else:
        seen = f"on {spike.seen_on} of" if spike.seen_on else "on none of"
        compared = (
            f"and it was seen {seen} the {count(spike.num_spans, 'day')} before; no other "
            f"{spike.kind}'s usual {bucket} is above {measure.bare(spike.usual)}"
        )
    return Finding(
        alert=measure.alert,
        severity="warning",
        subject=" ".join(filter(None, (width, spike.kind, repr(spike.id), measure.currency))),
        since=start,
        what=f"{who}: {measure.said(spike.amount)} {when}, {compared}",
        query=_query(spike, start, start + SECONDS[width], measure),
    )


def _query(spike: Spike, start: int, end: int, measure: Measure) -> str:
    """A user's hours with that bucket and the day before it; who used a key in that bucket."""
    table, condition = measure.asked, equals(_COLUMN[spike.kind], spike.id)
    if measure.currency is not None:
        condition += f" and {equals('currency', measure.currency)}"
    if spike.kind == "user":
        return (
            f"select start_time, {measure.columns} from {table} where {condition} "
            f"and start_time >= {moment(start - DAY)} and start_time < {moment(end)} order by all"
        )
    total = f"{measure.word}s"
    return (
        f"select user_id, sum({measure.column}) as {total} from {table} where {condition} "
        f"and start_time >= {moment(start)} and start_time < {moment(end)} "
        f"group by user_id order by {total} desc, user_id limit 20"
    )
