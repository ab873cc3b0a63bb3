"""What listed responses came to in a report's period: tokens, failures and, by a price list, money.

Belongs here: the inputs of `sql/report_token*.sql` and `sql/report_cost*.sql`. Unknown is None,
never 0: tokens that no response reports, the cost of a model without a price. Amounts are Decimal,
as exact as the queries give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.buckets import edges, finest
from pipeline.lake.schemas import RECONCILIATION, TOKENS
from pipeline.pricing.costs import bind_costs_of_tokens
from pipeline.report.axis import Axis, days_of, paired_days
from pipeline.report.source import NOTHING, Knowledge, Known, Source
from pipeline.timeline import Window

Grouped = Literal["all", "unit", "model", "user", "key", "team"]
Group = int | str | None
"""A bar by its number, or an id; None also where everything is one group."""


class Tokens(NamedTuple):
    """Responses and their tokens. None where no response reports the number."""

    responses: int
    failed: int
    """Of those, with status failed or incomplete."""
    input: int | None
    cached: int | None
    output: int | None
    reasoning: int | None
    total: int | None


NO_TOKENS: Final = Tokens(0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Bill:
    """What responses cost by the price list: an amount for each currency, the most used first."""

    amounts: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    unpriced: int = 0
    """Responses whose cost is unknown, and in no amount."""
    without_price: int = 0
    """Of those, of models that had no price that day."""

    def of(self, currency: str) -> Decimal | None:
        """The cost in a currency; None where nothing but the unknown is there."""
        return self.amounts.get(currency, None if self.unpriced else Decimal(0))


class Used(NamedTuple):
    """What a model, a user or some days came to. `bill` is None where there is no price list."""

    id: str | None
    tokens: Tokens
    bill: Bill | None
    name: str | None = None

    @property
    def shown(self) -> str | None:
        """The name, else the id."""
        return self.name or self.id


class SpendingBar(NamedTuple):
    """One bar on the axis, as `Bar` is; None where nothing was listed of it."""

    first: datetime
    end: datetime
    known: Knowledge
    used: Used | None
    before: Used | None


class ComparedSpending(NamedTuple):
    """What the days come to that are listed whole in both periods."""

    days: int
    this: Used
    before: Used


class Unlisted(NamedTuple):
    """A key with usage of whose responses nothing is known; None: calls without a key."""

    key: str | None
    operations: int | None
    name: str | None = None

    @property
    def shown(self) -> str | None:
        """The name of the key, else its id."""
        return self.name or self.key


@dataclass(frozen=True, slots=True)
class Spending:
    """What a report says of responses, in numbers."""

    total: Used
    bars: Sequence[SpendingBar]
    days: Mapping[date, Knowledge]
    """What is known of the responses of each day, of the period before too."""
    compared: ComparedSpending | None
    currencies: Sequence[str]
    """Those in which anything is known to cost, by how many responses do."""
    models: Sequence[Used]
    """All of them, those with the most tokens first."""
    users: Sequence[Used]
    """All of them, the most expensive first; those with the most tokens, where nothing has a
    price."""
    unlisted: Sequence[Unlisted]
    of_several: int
    """Responses that several keys list, and that so count for none."""
    teams: Sequence[Used] = ()
    """All of them, as users; none where nobody is in a team."""

    @property
    def currency(self) -> str | None:
        """That of most responses; None where the cost of none is known."""
        return self.currencies[0] if self.currencies else None


def read_spending(source: Source, axis: Axis, prices: pa.Table) -> Spending | None:
    """None where no response of the period is listed. `hours` must be what report_hours gives.

    `prices` is the table of a `PriceList`; one without rows: there is no price list.
    """
    whole = Window(axis.spans[0].start, axis.spans[-1].end)
    # Costs are counted from minutes, which old days may not keep: unknown then, not zero.
    known = source.known(whole.days, TOKENS["1m" if prices.num_rows else "1h"])
    days = days_of(axis.period, known)
    paired = paired_days(axis.period, days)
    _bind(source, axis, paired, whole)
    if not _Sums(source, priced=False).one().tokens.responses:
        return None
    priced = prices.num_rows > 0
    if priced:
        _bind_costs(source, axis, prices)
    sums = _Sums(source, priced)
    total = sums.one()
    currencies = [*total.bill.amounts] if total.bill else []
    return Spending(
        total=total,
        bars=_bars(sums, axis, known, paired),
        days=days,
        compared=ComparedSpending(
            len(paired), sums.one(paired=True), sums.one("before", paired=True)
        )
        if paired
        else None,
        currencies=currencies,
        models=_by_tokens(sums.by("model")),
        users=_by_cost(sums.by("user"), currencies),
        teams=_by_cost(sums.by("team"), currencies) if source.names.has_teams else (),
        unlisted=_unlisted(source, axis.period.window),
        of_several=sums.tokens("key").get(None, NO_TOKENS).responses,
    )


def _bind(source: Source, axis: Axis, paired: set[date], whole: Window) -> None:
    """Make `period_tokens` what report_tokens gives."""
    con = source.con
    source.bind("tokens_rows", TOKENS[finest(axis.spans)], whole.days)
    con.register("edges", edges(axis.spans))
    con.register("slots", axis.slots(paired))
    con.execute(f"CREATE OR REPLACE TEMP VIEW tokens AS {engine.sql('tokens_by')}")
    con.execute(f"CREATE TEMP TABLE period_tokens AS {engine.sql('report_tokens')}")


def _bind_costs(source: Source, axis: Axis, prices: pa.Table) -> None:
    """Make `period_costs` what report_costs gives. A price is of minutes: a sum of several rows
    would have another one, where more is cached than was read."""
    con = source.con
    source.bind("tokens_rows", TOKENS["1m"], Window(axis.spans[0].start, axis.spans[-1].end).days)
    bind_costs_of_tokens(con, prices, axis.spans)
    con.execute(f"CREATE TEMP TABLE period_costs AS {engine.sql('report_costs')}")


@dataclass(frozen=True, slots=True)
class _Sums:
    """Tokens and costs of a period, in groups."""

    source: Source
    priced: bool
    """Whether there is a price list."""

    def one(self, period: str = "this", *, paired: bool = False) -> Used:
        """What a period comes to."""
        found = self._used("all", period, paired=paired)
        return found[0] if found else Used(None, NO_TOKENS, Bill() if self.priced else None)

    def by(self, grouped: Grouped) -> list[Used]:
        """Models or users of this period, in no order."""
        return self._used(grouped, "this", paired=False)

    def by_bar(self, period: str) -> dict[int, Used]:
        """By the number of a bar; those without responses are left out."""
        tokens, bills = self.tokens("unit", period), self._bills("unit", period)
        return {
            int(unit or 0): Used(None, counts, bills.get(unit, Bill()) if self.priced else None)
            for unit, counts in tokens.items()
        }

    def tokens(
        self, grouped: Grouped, period: str = "this", *, paired: bool = False
    ) -> dict[Group, Tokens]:
        """Responses and tokens by group; those without responses are left out."""
        rows = self.source.rows("token_sums", period=period, paired_only=paired, grouped=grouped)
        return {unit if grouped == "unit" else id_: Tokens(*counts) for unit, id_, *counts in rows}

    def _used(self, grouped: Grouped, period: str, *, paired: bool) -> list[Used]:
        bills = self._bills(grouped, period, paired=paired)
        return [
            Used(
                None if id_ is None else str(id_),
                counts,
                bills.get(id_, Bill()) if self.priced else None,
            )
            for id_, counts in self.tokens(grouped, period, paired=paired).items()
        ]

    def _bills(self, grouped: Grouped, period: str, *, paired: bool = False) -> dict[Group, Bill]:
        if not self.priced:
            return {}
        rows = self.source.rows("cost_sums", period=period, paired_only=paired, grouped=grouped)
        bills: dict[Group, Bill] = {}
        for unit, id_, currency, cost, _, unpriced in rows:
            group: Group = unit if grouped == "unit" else id_
            bill = bills.get(group, Bill())
            bills[group] = Bill(
                bill.amounts if cost is None else {**bill.amounts, currency: cost},
                bill.unpriced + unpriced,
                bill.without_price + (unpriced if currency is None else 0),
            )
        return bills


def _bars(sums: _Sums, axis: Axis, known: Known, paired: set[date]) -> list[SpendingBar]:
    this, earlier = sums.by_bar("this"), sums.by_bar("before")
    none = Used(None, NO_TOKENS, Bill() if sums.priced else None)
    bars: list[SpendingBar] = []
    for place in axis.places(known):
        used = None if place.known in NOTHING else this.get(place.unit, none)
        before = axis.before(place, paired)
        prior = None if before is None else earlier.get(before, none)
        bars.append(SpendingBar(place.first, place.end, place.known, used, prior))
    return bars


def _by_tokens(used: Sequence[Used]) -> list[Used]:
    """The most first, and without an id last of the same."""
    return sorted(
        used,
        key=lambda one: (
            -(one.tokens.total or 0),
            -one.tokens.responses,
            one.id is None,
            one.id or "",
        ),
    )


def _by_cost(used: Sequence[Used], currencies: Sequence[str]) -> list[Used]:
    """The most expensive first, by the first currency, then the others, then tokens."""

    def amounts(one: Used) -> list[Decimal]:
        known = [one.bill and one.bill.of(currency) for currency in currencies]
        return [(amount or Decimal(0)).copy_negate() for amount in known]  # `-` would round

    return sorted(_by_tokens(used), key=amounts)


def _unlisted(source: Source, window: Window) -> list[Unlisted]:
    source.bind(RECONCILIATION.name, RECONCILIATION, window.days, of_all=True)
    return [Unlisted(*row) for row in source.rows("unlisted")]
