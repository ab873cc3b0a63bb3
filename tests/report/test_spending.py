"""A report's tokens, failures and costs are those of the emulator's own responses; what is not
known of them is said, and is never 0."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.lake.store import Lake
from pipeline.pricing.budgets import read_budgets
from pipeline.pricing.prices import PriceList, read_prices
from pipeline.report import charts
from pipeline.report.drawing import WIDE
from pipeline.report.figures import (
    NO_PRICES,
    Counts,
    Figures,
    NothingToReportError,
    read,
)
from pipeline.report.parts import Section
from pipeline.report.sections import page_content
from pipeline.report.source import EVERYTHING, Only
from pipeline.report.spending import NO_TOKENS, Bill, Spending, Tokens
from tests.report.conftest import UNLISTED, Answered
from tests.report.scenes import Bucket, listed, on

UTC = ZoneInfo("UTC")

PRICES = """model,valid_from,currency,input,cached,output,reasoning
large,2024-01-01,usd,2.50,1.25,10,12
large,2024-03-27,usd,3,1.5,12.000000001,14
small,2024-01-01,eur,0.15,,0.60,
"""
"""Of the third model nothing is known."""


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceList:
    return price_list(tmp_path_factory.mktemp("prices"), PRICES)


def price_list(folder: Path, text: str) -> PriceList:
    path = folder / "prices.csv"
    path.write_text(text, encoding="utf-8")
    return read_prices(path)


def cost_of(one: Answered) -> tuple[str, Decimal] | None:
    """By hand, from the list above."""
    utc_day = datetime.fromtimestamp(one.at, UTC).date()
    if one.model == "large":
        new = utc_day >= date(2024, 3, 27)
        rates = ("3", "1.5", "12.000000001", "14") if new else ("2.50", "1.25", "10", "12")
        currency = "usd"
    elif one.model == "small":
        rates, currency = ("0.15", "0.15", "0.60", "0.60"), "eur"
    else:
        return None
    fresh, cached, output, reasoning = (Decimal(rate) / 1_000_000 for rate in rates)
    of = one.tokens
    return currency, (
        (of.input - of.cached) * fresh
        + of.cached * cached
        + (of.output - of.reasoning) * output
        + of.reasoning * reasoning
    )


def tokens_of(found: Sequence[Answered]) -> Tokens:
    if not found:
        return NO_TOKENS
    failed = sum(one.status in {"failed", "incomplete"} for one in found)
    names = ("input", "cached", "output", "reasoning")
    read, cached, written, reasoned = (
        sum(getattr(one.tokens, name) for one in found) for name in names
    )
    return Tokens(len(found), failed, read, cached, written, reasoned, read + written)


def amounts_of(found: Iterable[Answered]) -> dict[str, Decimal]:
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    for one in found:
        if cost := cost_of(one):
            amounts[cost[0]] += cost[1]
    return amounts


def within(found: Iterable[Answered], first: date, last: date, zone: ZoneInfo) -> list[Answered]:
    return [one for one in found if first <= datetime.fromtimestamp(one.at, zone).date() <= last]


def spending_of(figures: Figures) -> Spending:
    assert figures.spending is not None
    return figures.spending


def section(figures: Figures, name: str) -> Section:
    [found] = [one for one in page_content(figures).sections if one.name == name]
    return found


def rows_of(figures: Figures, name: str) -> list[list[str]]:
    """Head and rows of a section's table."""
    [table] = section(figures, name).tables
    return [[*table.head], *([*row] for row in table.rows)]


def drawn(figures: Figures, name: str) -> str:
    """Everything that a section's chart is made of."""
    chart = section(figures, name).chart
    assert chart is not None
    return json.dumps(chart(WIDE).to_dict())


@pytest.mark.parametrize(
    ("first", "last", "zone_name"),
    [
        (date(2024, 3, 28), date(2024, 3, 31), "UTC"),
        (date(2024, 3, 28), date(2024, 3, 30), "Europe/Berlin"),
        (date(2024, 3, 27), date(2024, 3, 27), "Asia/Kathmandu"),  # by hour; and of two prices
    ],
)
def test_every_number_is_that_of_the_responses(
    synced: Lake,
    responses: list[Answered],
    prices: PriceList,
    first: date,
    last: date,
    zone_name: str,
) -> None:
    zone = ZoneInfo(zone_name)
    compare(synced, responses, prices, (first, last, zone), EVERYTHING)


@pytest.mark.parametrize(
    "only",
    [Only(model="small"), Only(model="large"), Only(user="ada"), Only("cy", "key_web")],
)
def test_a_part_is_that_of_its_responses(
    synced: Lake, responses: list[Answered], prices: PriceList, only: Only
) -> None:
    period = date(2024, 3, 28), date(2024, 3, 31), UTC
    compare(synced, responses, prices, period, only)


def test_a_model_of_which_nothing_is_listed_has_no_report(synced: Lake) -> None:
    with pytest.raises(NothingToReportError, match="no response of this model is listed from"):
        read(synced, None, None, UTC, only=Only(model="elsewhere"))


def test_a_report_of_a_model_says_nothing_of_what_is_not_known_by_model(synced: Lake) -> None:
    report = page_content(read(synced, None, None, UTC, only=Only(model="small")))
    assert report.of == "Of model small"
    assert [tile.name for tile in report.tiles] == ["Tokens"]
    assert "Operations, items and conversations are not known by model." in report.lead
    assert {"usage", "users", "keys", "week"}.isdisjoint(one.name for one in report.sections)
    assert "coverage" in {one.name for one in report.sections}


def test_a_part_without_usage_says_so_and_shows_what_is_loaded(synced: Lake) -> None:
    report = page_content(read(synced, None, None, UTC, only=Only(user="nobody")))
    assert report.lead == "There is no usage of user nobody in what is loaded of this period."
    assert [one.name for one in report.sections] == ["coverage"]
    assert not report.tiles
    assert report.compared == ""


def compare(
    synced: Lake,
    every: list[Answered],
    prices: PriceList,
    period: tuple[date, date, ZoneInfo],
    only: Only,
) -> None:
    """That a report's tokens and costs are those of the responses of what it is `only` of."""
    first, last, zone = period
    figures = read(synced, first, last, zone, prices, only=only)
    found = spending_of(figures)
    responses = [
        one
        for one in every
        if only.user in {None, one.user}
        and only.key in {None, one.key}
        and only.model in {None, one.model}
    ]
    these = within(responses, first, last, zone)
    gone = timedelta(days=(last - first).days + 1)
    before = within(responses, first - gone, last - gone, zone)
    assert found.total.tokens == tokens_of(these)
    assert found.total.bill is not None
    assert found.total.bill.amounts == amounts_of(these)
    unpriced = sum(cost_of(one) is None for one in these)
    assert (found.total.bill.unpriced, found.total.bill.without_price) == (unpriced, unpriced)
    assert found.compared is not None
    if found.compared.days == gone.days:
        assert found.compared.before.tokens == tokens_of(before)

    by_bar: dict[datetime, list[Answered]] = defaultdict(list)
    for one in these:
        shown = datetime.fromtimestamp(one.at, zone).replace(minute=0, second=0, tzinfo=None)
        by_bar[shown if figures.period.unit == "hour" else shown.replace(hour=0)].append(one)
    assert set(by_bar) <= {bar.first for bar in found.bars}
    for bar in found.bars:
        assert bar.used is not None
        assert bar.used.tokens == tokens_of(by_bar[bar.first])
        assert bar.used.bill is not None
        assert bar.used.bill.amounts == amounts_of(by_bar[bar.first])

    for used, of in ((found.models, "model"), (found.users, "user")):
        names = {getattr(one, of) for one in these}
        assert {one.id for one in used} == names
        for group in used:
            members = [answer for answer in these if getattr(answer, of) == group.id]
            assert group.tokens == tokens_of(members)
            assert group.bill is not None
            assert group.bill.amounts == amounts_of(members)
    totals = [one.tokens.total or 0 for one in found.models]
    assert totals == sorted(totals, reverse=True)
    assert found.currency is not None
    costs = [one.bill.of(found.currency) if one.bill else None for one in found.users]
    known = [cost or Decimal(0) for cost in costs]
    assert known == sorted(known, reverse=True)


def test_keys_of_whose_responses_nothing_is_known_are_named(synced: Lake) -> None:
    figures = read(synced, None, None, UTC)
    found = spending_of(figures)
    assert [(one.key, one.operations) for one in found.unlisted] == [(UNLISTED, 50)]
    assert (
        "Counted are the responses that could be listed. Nothing is known of key_elsewhere, which "
        "made 33 % of all operations."
    ) in section(figures, "tokens").finding


# Small lakes, planted


WEEKS = [
    *(Bucket(number, model="large") for number in range(14)),
    *(Bucket(number, "bob", model="small", responses=4, failed=1) for number in range(7, 14)),
    Bucket(13, None, model=None, input=None, cached=None, output=None, reasoning=None, total=None),
]
FLAT = "model,valid_from,currency,input,output\nlarge,2024-01-01,usd,1,20\n"
"""A bucket of the large model costs 0.003 USD."""


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two weeks, of which the second has a second model and a response that says nothing."""
    return listed(tmp_path_factory.mktemp("weeks") / "lake", WEEKS, range(14), range(14))


def second_week(lake: Lake, prices: PriceList = NO_PRICES) -> Figures:
    return read(lake, on(7), on(13), UTC, prices)


def names_of(figures: Figures) -> list[str]:
    return [one.name for one in page_content(figures).sections]


def tile(figures: Figures, name: str) -> tuple[str, str | None]:
    """The value of a tile, and how it has changed."""
    [found] = [one for one in page_content(figures).tiles if one.name == name]
    return found.value, found.change.sign if found.change else None


def test_where_no_response_is_listed_nothing_is_said_of_tokens(tmp_path: Path) -> None:
    for synced in (range(0), range(2)):
        lake = listed(tmp_path / f"{synced}", [Bucket(2)], range(2), synced)
        figures = read(lake, None, None, UTC)
        assert figures.spending is None
        assert not {"tokens", "cost", "models", "failures"} & set(names_of(figures))
        assert len(page_content(figures).tiles) == 4


def test_without_a_price_list_there_are_tokens_and_no_costs(weeks: Lake) -> None:
    figures = second_week(weeks)
    assert spending_of(figures).total.bill is None
    assert names_of(figures)[:5] == ["usage", "tokens", "models", "users-by-tokens", "failures"]
    assert tile(figures, "Tokens") == ("15,400", "▲ 100 %")
    assert not [one for one in page_content(figures).tiles if "ost" in one.name]
    assert rows_of(figures, "models")[0][-1] == "Tokens"
    assert rows_of(figures, "users-by-tokens")[1:3] == [
        ["bob", "28", "7,000", "0", "700", "0", "7,700"],
        ["ada", "7", "7,000", "0", "700", "0", "7,700"],
    ]


def test_the_tables_hold_the_tokens_and_what_they_cost(weeks: Lake, tmp_path: Path) -> None:
    figures = second_week(weeks, price_list(tmp_path, FLAT))
    head, monday, *_, sunday = rows_of(figures, "tokens")
    assert head == [
        *("Day", "Status", "Responses", "Input", "Cached input", "Output", "Reasoning"),
        *("Tokens", "Tokens, before"),
    ]
    assert monday == [*("Mon 8 Jan 2024", "final", "5", "2,000", "0", "200", "0", "2,200", "1,100")]
    assert sunday[2] == "6"
    head, monday, *_ = rows_of(figures, "cost")
    assert head[2:] == ["Cost in USD", "Responses of unknown cost", "USD, before"]
    assert monday[2:] == ["0.003", "4", "0.003"]
    assert "15,400 tokens in 36 responses, 100 % more than in the period before." in (
        section(figures, "tokens").finding
    )
    assert "0.021 USD by the price list" in section(figures, "cost").finding


def test_what_has_no_price_is_unknown_and_never_0(weeks: Lake, tmp_path: Path) -> None:
    figures = second_week(weeks, price_list(tmp_path, FLAT))
    rows = {row[0]: row[-2:] for row in rows_of(figures, "models")[1:]}
    assert rows == {
        "large": ["0.021", "0"],
        "small": ["unknown", "28"],
        "(no model)": ["unknown", "1"],
    }
    assert "7,700 (0.021 USD)" in drawn(figures, "models")
    assert "7,700 (cost unknown)" in drawn(figures, "models")
    assert tile(figures, "Known cost") == ("0.021 USD", None)
    cost = section(figures, "cost")
    assert (
        "The cost of 29 responses of small and (no model) is unknown, and not in it: the price "
        "list has no price for them."
    ) in cost.finding
    assert ("loose", "with responses of unknown cost") in cost.keys
    assert "The cost of 2 models is unknown." in section(figures, "models").finding


def test_a_day_of_which_no_cost_is_known_is_a_gap(tmp_path: Path) -> None:
    buckets = [Bucket(0, model="small"), Bucket(1), Bucket(1, model="small"), Bucket(3)]
    lake = listed(tmp_path / "lake", buckets, range(5), range(5))
    figures = read(lake, None, None, UTC, price_list(tmp_path, FLAT))
    assert [row[2] for row in rows_of(figures, "cost")[1:]] == [
        *("unknown", "0.003", "0.00", "0.003", "0.00")
    ]
    assert ("gap", "unknown") in section(figures, "cost").keys
    assert '"words": "unknown"' in drawn(figures, "cost")


def test_where_nothing_has_a_price_the_cost_is_unknown(weeks: Lake, tmp_path: Path) -> None:
    figures = second_week(weeks, price_list(tmp_path, FLAT.replace("large", "another")))
    found = spending_of(figures)
    assert found.currency is None
    assert found.total.bill == Bill({}, 36, 36)
    cost = section(figures, "cost")
    assert "The cost of none of 36 responses is known." in cost.finding
    assert cost.chart is None
    assert not [one for one in page_content(figures).tiles if "ost" in one.name]
    assert "users-by-tokens" in names_of(figures)


def test_a_price_that_begins_is_no_rise(weeks: Lake, tmp_path: Path) -> None:
    always = price_list(tmp_path, FLAT.replace("large", "*"))
    assert tile(second_week(weeks, always), "Known cost") == ("0.042 USD", "▲ 100 %")
    begins = price_list(tmp_path, FLAT.replace("large", "*").replace("01-01", "01-08"))
    assert tile(second_week(weeks, begins), "Known cost") == ("0.042 USD", None)
    amid = second_week(weeks, price_list(tmp_path, FLAT.replace("01-01", "01-13")))
    assert "7,700 (at least 0.006 USD)" in drawn(amid, "models")


def test_each_currency_has_a_column_and_none_is_added_to_another(
    weeks: Lake, tmp_path: Path
) -> None:
    prices = price_list(tmp_path, f"{FLAT}small,2024-01-01,eur,2,20\n*,2024-01-01,eur,1,1\n")
    figures = second_week(weeks, prices)
    assert spending_of(figures).currencies == ["eur", "usd"], "most responses are in EUR"
    head, monday, *_ = rows_of(figures, "cost")
    assert head[2:5] == ["Cost in EUR", "Cost in USD", "Responses of unknown cost"]
    assert monday[2:4] == ["0.004", "0.003"]
    assert (
        "0.028 EUR and 0.021 USD by the price list, up from none in the period before (EUR)."
        in (section(figures, "cost").finding)
    )
    assert "bob made 100 % of the cost in EUR." in section(figures, "users-by-cost").finding
    rows = {row[0]: row[-3:-1] for row in rows_of(figures, "models")[1:]}
    assert rows["small"] == ["0.028", "0.00"]
    assert "7,700 (0.028 EUR)" in drawn(figures, "models")
    assert "7,700 (0.021 USD)" in drawn(figures, "models")
    assert tile(figures, "Known cost, one of 2 currencies") == ("0.028 EUR", "▲ from 0")


def test_a_response_that_says_no_tokens_has_an_unknown_cost(weeks: Lake, tmp_path: Path) -> None:
    figures = second_week(weeks, price_list(tmp_path, FLAT.replace("large", "*")))
    assert spending_of(figures).total.bill == Bill({"usd": Decimal("0.042")}, 1, 0)
    assert "1 response does not say how many tokens it took, so the cost is unknown too." in (
        section(figures, "cost").finding
    )
    rows = {row[0]: row for row in rows_of(figures, "models")[1:]}
    assert rows["(no model)"][1:] == ["1", "–", "–", "–", "–", "–", "unknown", "1"]


def test_the_failures_of_each_model_are_a_share_of_its_responses(weeks: Lake) -> None:
    figures = second_week(weeks)
    assert rows_of(figures, "failures")[1:] == [
        ["small", "28", "7", "25 %"],
        ["large", "7", "0", "0 %"],
        ["(no model)", "1", "0", "0 %"],
    ]
    assert section(figures, "failures").finding == (
        "7 of 36 responses failed or ended incomplete: 19 %. Highest for small: 25 %."
    )
    assert "25 % (7 of 28)" in drawn(figures, "failures")
    [table] = section(figures, "failures").tables
    assert (table.kind, table.ids) == ("model", ["small", "large", None])


def test_days_that_were_not_synced_are_gaps_and_not_compared(tmp_path: Path) -> None:
    lake = listed(tmp_path / "lake", WEEKS, range(3, 11), [5, 6, 7, 10])
    figures = read(lake, on(7), on(10), UTC)
    found = spending_of(figures)
    assert [bar.used.tokens.responses if bar.used else None for bar in found.bars] == [
        *(5, None, None, 5)
    ]
    assert found.compared is None
    assert tile(figures, "Tokens") == ("4,400", None)
    assert figures.compared is not None
    assert rows_of(figures, "tokens")[2][1:] == ["not loaded", *"––––––"]
    tokens = section(figures, "tokens")
    assert "Of 2 days none are listed: 9 to 10 January 2024." in tokens.finding
    assert ("gap", "not loaded") in tokens.keys
    assert page_content(figures).compared.endswith(
        "Tokens are not compared: too few days are listed in both periods."
    )


def test_only_days_that_are_synced_in_both_periods_are_compared(tmp_path: Path) -> None:
    lake = listed(tmp_path / "lake", WEEKS, range(3, 11), range(4, 11))
    figures = read(lake, on(7), on(10), UTC)
    found = spending_of(figures).compared
    assert found is not None
    assert (found.days, found.this.tokens.total, found.before.tokens.total) == (3, 6_600, 3_300)
    assert "Tokens on 3 days, those listed whole in both periods." in page_content(figures).compared
    assert "100 % more on 3 days than in the period before." in section(figures, "tokens").finding


def test_responses_that_several_keys_list_count_for_none_and_that_is_said(tmp_path: Path) -> None:
    buckets = [Bucket(0), Bucket(0, key=None, responses=2)]
    lake = listed(tmp_path / "lake", buckets, range(1), range(1))
    said = section(read(lake, None, None, UTC), "tokens").finding
    assert (
        "No response counts for calls without a key, which made 50 % of all operations. "
        "2 responses are listed under several keys, and count for none."
    ) in said


def test_budgets_are_those_of_the_end_of_the_report(weeks: Lake, tmp_path: Path) -> None:
    prices = price_list(tmp_path, FLAT)
    path = tmp_path / "budgets.csv"
    path.write_text(
        "scope,id,period,tz,measure,amount,thresholds\n"
        "all,,week,,tokens,10000,50 100\n"
        "user,ada,month,,cost,0.05,80 95\n"
        "key,key,day,,operations,10,50\n"
        "all,,month,Europe/Berlin,cost,1,\n"
    )
    asked = read_budgets(path, prices)
    figures = read(weeks, on(7), on(13), UTC, prices, asked)
    assert {state.through for state in figures.budgets} == {figures.period.window.end}
    found = section(figures, "budgets")
    assert found.finding == (
        "At 15 January 2024, 00:00, 1 of 4 budgets is used up and 1 is heading beyond the amount."
    )
    assert [row[:8] for row in rows_of(figures, "budgets")[1:]] == [
        [
            *("Tokens, everybody", "8 to 14 January 2024", "10,000", "at least 15,400", "154 %"),
            *("-5,400", "15,400", "already"),
        ],
        [
            *("Cost, ada", "January 2024", "0.05 USD", "0.042 USD", "84 %", "0.008 USD"),
            *("0.093 USD", "17 January 2024, 16:00"),
        ],
        ["Operations, key", "14 January 2024", "10", "3", "30 %", "7", "3", "not in this period"],
        [
            *("Cost, everybody", "January 2024 (Europe/Berlin)", "1.00 USD", "at least 0.042 USD"),
            *("4.2 %", "0.958 USD", "0.093 USD", "not in this period"),
        ],
    ]
    assert [row[8] for row in rows_of(figures, "budgets")[1:]] == [
        *("50 %, 100 %", "80 %", "none", "none")
    ]
    assert rows_of(figures, "budgets")[4][-1] == (
        "1 hour of 337 so far is not loaded; 29 responses of unknown cost beside"
    )
    assert "0.042 USD of 0.05 USD, heading for 0.093 USD" in drawn(figures, "budgets")
    assert read(weeks, on(7), on(13), UTC, prices).budgets == ()


def test_budgets_of_a_day_of_which_nothing_is_listed_are_unknown(tmp_path: Path) -> None:
    lake = listed(tmp_path / "lake", [Bucket(1)], range(2), range(1))
    path = tmp_path / "budgets.csv"
    path.write_text("scope,period,measure,amount\nall,day,tokens,10\nall,day,operations,10\n")
    figures = read(lake, on(0), on(1), UTC, budgets=read_budgets(path, NO_PRICES))
    assert section(figures, "budgets").finding == (
        "At 3 January 2024, 00:00, none of 2 budgets is used up or heading beyond the amount; of 1 "
        "budget nothing is known."
    )
    assert [row[3:6] for row in rows_of(figures, "budgets")[1:]] == [
        ["–", "–", "–"],
        ["1", "10 %", "9"],
    ]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (100, 100),  # at the top of the bar: below the number
        (104, 104),  # it would go through the number
        (112, 112),
        (130, 100),  # above the number
        (60, 100),
        (None, 100),
    ],
)
def test_no_line_of_the_period_before_goes_through_the_number_of_the_highest_bar(
    weeks: Lake, line: int | None, level: int
) -> None:
    figures = second_week(weeks)
    bars = [
        bar._replace(counts=Counts(0, 0, 50 + 50 * (number == 3)), before=None)
        for number, bar in enumerate(figures.bars)
    ]
    if line is not None:
        bars[3] = bars[3]._replace(before=Counts(0, 0, line))
    chart = charts.over_time(replace(figures, bars=bars), WIDE).to_dict()
    [number] = [
        chart["datasets"][layer["data"]["name"]][0]
        for layer in chart["vconcat"][0]["layer"]
        if layer["mark"].get("dy")
    ]
    assert (number["label"], number["value"]) == ("100", level)
