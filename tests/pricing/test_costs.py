"""What tokens cost is what plain decimals say, to the last digit: by any list, width and zone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.lake import engine
from pipeline.lake.buckets import buckets
from pipeline.lake.schemas import TOKENS
from pipeline.pricing.costs import bind_costs_of_tokens
from pipeline.pricing.prices import PriceList, read_prices
from pipeline.timeline import AnyWidth, Window, day_window
from tests.lake.served import temporary

FIRST: Final = date(2024, 3, 30)
"""In the night to the day after, the clocks of Europe are moved; in New York they have been."""
WINDOW: Final = Window(day_window(FIRST).start, day_window(FIRST + timedelta(days=2)).end)
WIDTHS: Final[tuple[AnyWidth, ...]] = ("1m", "1h", "1d", "1w")
ZONES: Final = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York")
EXACT: Final = Context(prec=80)
HEADER: Final = "model,valid_from,currency,input,cached,output,reasoning"


class Tokens(NamedTuple):
    """A row of tokens_1m, without what has no say in its cost."""

    minute: int
    user_id: str | None
    api_key_id: str | None
    model: str | None
    num_responses: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None


class Priced(NamedTuple):
    """A line of a price list; None where the cell is empty."""

    model: str
    valid_from: date
    input: Decimal
    cached: Decimal | None
    output: Decimal
    reasoning: Decimal | None

    @property
    def currency(self) -> str:
        """A model has one, and patterns may have another."""
        return "eur" if self.model.startswith("g") else "usd"

    def line(self) -> str:
        cells = (self.input, self.cached, self.output, self.reasoning)
        numbers = ",".join("" if it is None else f"{it:f}" for it in cells)
        return f"{self.model},{self.valid_from},{self.currency},{numbers}"


def price_list(lines: Iterable[Priced]) -> PriceList:
    with temporary() as folder:
        path = Path(folder) / "prices.csv"
        path.write_text("\n".join([HEADER, *(it.line() for it in lines)]), encoding="utf-8")
        return read_prices(path)


def price_by_hand(lines: Sequence[Priced], model: str | None, day: date) -> Priced | None:
    """An exact name, else the pattern with most letters, else `*`; of each model, the last row."""

    def matches(name: str) -> bool:
        if name == "*" or model is None:
            return name == "*"
        return bool(re.fullmatch(re.escape(name).replace(r"\*", ".*"), model, re.DOTALL))

    begun = [it for it in lines if it.valid_from <= day and matches(it.model)]
    if not begun:
        return None
    names = {it.model for it in begun}
    best = max(names, key=lambda it: ("*" not in it, len(it.replace("*", "")), it))
    return max((it for it in begun if it.model == best), key=lambda it: it.valid_from)


def cost_by_hand(row: Tokens, price: Priced) -> Decimal | None:
    if row.input_tokens is None and row.output_tokens is None:
        return None
    read, written = row.input_tokens or 0, row.output_tokens or 0
    cached = min(row.cached_tokens or 0, read)
    reasoning = min(row.reasoning_tokens or 0, written)
    cached_price = price.input if price.cached is None else price.cached
    reasoning_price = price.output if price.reasoning is None else price.reasoning
    with localcontext(EXACT):
        return (
            (read - cached) * price.input
            + cached * cached_price
            + (written - reasoning) * price.output
            + reasoning * reasoning_price
        ) / 1_000_000


Group = tuple[int, str | None, str | None, str | None, str | None]
Costs = dict[Group, tuple[Decimal | None, int, int]]


def by_hand(rows: Iterable[Tokens], lines: Sequence[Priced], width: AnyWidth, zone: str) -> Costs:
    """Bucket start, user, key, model and currency, to cost, responses and unpriced responses."""
    found: dict[Group, list[tuple[Decimal | None, int]]] = defaultdict(list)
    for row in rows:
        price = price_by_hand(lines, row.model, datetime.fromtimestamp(row.minute, UTC).date())
        cost = None if price is None else cost_by_hand(row, price)
        currency = None if price is None else price.currency
        start = begins(row.minute, width, ZoneInfo(zone))
        group = (start, row.user_id, row.api_key_id, row.model, currency)
        found[group].append((cost, row.num_responses))
    with localcontext(EXACT):
        return {
            group: (
                sum((cost for cost, _ in of if cost is not None), Decimal())
                if any(cost is not None for cost, _ in of)
                else None,
                sum(number for _, number in of),
                sum(number for cost, number in of if cost is None),
            )
            for group, of in found.items()
        }


def begins(moment: int, width: AnyWidth, zone: ZoneInfo) -> int:
    shown = datetime.fromtimestamp(moment, zone)
    if width == "1m":
        return moment
    if width == "1h":
        return moment - shown.minute * 60
    midnight = shown.replace(hour=0, minute=0) - timedelta(
        days=shown.weekday() if width == "1w" else 0
    )
    return int(midnight.astimezone(UTC).timestamp())


def costs(rows: Sequence[Tokens], prices: PriceList, width: AnyWidth, zone: str) -> Costs:
    schema = TOKENS["1m"].schema
    table = pa.Table.from_pylist(
        [{**row._asdict(), "start_time": row.minute * 1_000_000} for row in rows], schema=schema
    )
    with closing(engine.connect()) as con:
        con.register("tokens_rows", table)
        bind_costs_of_tokens(con, prices.table, buckets(con, WINDOW, width, zone))
        result = con.sql(
            "SELECT CAST(epoch(start_time) AS BIGINT), user_id, api_key_id, model, currency, cost, "
            "num_responses, num_unpriced FROM costs"
        )
        assert str(result.types[5]) == "DECIMAL(38,15)"
        return {
            group: (cost, n, m) for *of, cost, n, m in result.fetchall() for group in [tuple(of)]
        }


MODELS: Final = ("gpt-large", "gpt-4", "GPT-4", "a_b", "axb", "a%b", "a!b", "ünïcode 模型", "")
NAMES: Final = (*MODELS[:-1], "*", "gpt-*", "*4", "a*b", "a_*", "*-l*e", "g*")
COUNTS: Final = st.none() | st.integers(0, 5) | st.integers(0, 2**58)
AMOUNTS: Final = st.integers(0, 10**18 - 1).map(
    lambda it: Decimal(it).scaleb(-9)
) | st.sampled_from(
    [Decimal("0"), Decimal("2.50"), Decimal("0.000000001"), Decimal("999999999.999999999")]
)
ROWS: Final = st.lists(
    st.builds(
        Tokens,
        minute=st.integers(0, 3 * 1_440 - 1).map(lambda it: WINDOW.start + 60 * it),
        user_id=st.sampled_from([None, "ada", "bob"]),
        api_key_id=st.sampled_from([None, "key"]),
        model=st.none() | st.sampled_from(MODELS),
        num_responses=st.integers(1, 9),
        **dict.fromkeys(Tokens._fields[5:], COUNTS),
    ),
    max_size=15,
)
DAYS: Final = st.integers(-2, 4).map(lambda it: FIRST + timedelta(days=it))
LISTS: Final = st.lists(
    st.builds(
        Priced,
        st.just("*") | st.sampled_from(NAMES),
        DAYS,
        AMOUNTS,
        st.none() | AMOUNTS,
        AMOUNTS,
        st.none() | AMOUNTS,
    ),
    max_size=8,
    unique_by=lambda it: (it.model, it.valid_from),
)


ANYTHING: Final = given(
    rows=ROWS, lines=LISTS, width=st.sampled_from(WIDTHS), zone=st.sampled_from(ZONES)
)


NO_MODEL: Final = Tokens(WINDOW.start, None, None, None, 1, 7, 3, 5, 2)
LAST_RESORT: Final = Priced("*", FIRST, Decimal(1), Decimal(2), Decimal(3), Decimal(4))


@settings(max_examples=40)
@example(rows=[NO_MODEL], lines=[LAST_RESORT], width="1d", zone="UTC")
@ANYTHING
def test_any_tokens_cost_by_any_list_what_plain_decimals_say(
    rows: list[Tokens], lines: list[Priced], width: AnyWidth, zone: str
) -> None:
    assert costs(rows, price_list(lines), width, zone) == by_hand(rows, lines, width, zone)


@pytest.mark.slow
@settings(max_examples=100)
@ANYTHING
def test_so_do_many_more(
    rows: list[Tokens], lines: list[Priced], width: AnyWidth, zone: str
) -> None:
    assert costs(rows, price_list(lines), width, zone) == by_hand(rows, lines, width, zone)


@settings(max_examples=15)
@given(rows=ROWS, lines=LISTS, later=LISTS)
def test_a_later_price_changes_no_cost_before_its_day(
    rows: list[Tokens], lines: list[Priced], later: list[Priced]
) -> None:
    there = {(it.model, it.valid_from) for it in lines}
    added = [it for it in later if (it.model, it.valid_from) not in there]
    before = min((it.valid_from for it in added), default=date.max)
    costs_before = {
        group: cost
        for group, cost in costs(rows, price_list(lines), "1d", "UTC").items()
        if datetime.fromtimestamp(group[0], UTC).date() < before
    }
    costs_after = costs(rows, price_list([*lines, *added]), "1d", "UTC")
    assert costs_before == {
        group: cost
        for group, cost in costs_after.items()
        if datetime.fromtimestamp(group[0], UTC).date() < before
    }
