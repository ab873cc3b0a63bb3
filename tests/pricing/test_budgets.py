"""A budget counts what plain Python counts, in its own period and zone, and says what it lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from rich.console import Console

from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.pricing.budget_states import BudgetState, budget_states
from pipeline.pricing.budget_table import amount_of, print_budgets, share_of
from pipeline.pricing.budgets import read_budgets
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import read_prices
from pipeline.pseudonyms import Pseudonyms
from tests.fixtures_local import clean_environment, command
from tests.pricing.spent import START, Spent, spend, write_prices
from tests.pricing.test_costs import EXACT

HOUR = 3_600
DAY = 24 * HOUR
HEADER = "scope,id,period,tz,measure,amount,thresholds"
PRICES = (
    "large,2024-01-01,usd,2.50,1.25,10,\nlarge,2024-04-01,usd,5,,20,40\nsm*,2024-01-01,usd,1,,1,"
)


def write_budgets(home: Path, *lines: str) -> Path:
    path = home / "budgets.csv"
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return path


# Reading the file


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    path = tmp_path / "budgets.csv"
    path.write_text("measure,period,scope,amount\noperations,day,all,100\n")
    [budget] = read_budgets(path, read_prices(tmp_path / "prices.csv"))
    assert (budget.id, budget.tz, budget.thresholds) == ("", "UTC", (80, 100))
    assert read_budgets(tmp_path / "none.csv", read_prices(tmp_path / "prices.csv")) == []


@pytest.mark.parametrize(
    ("line", "column", "complaint"),
    [
        ("person,x,day,,tokens,1,", "scope", "write user, key, team or all"),
        ("all,x,day,,tokens,1,", "id", "leave it empty where the scope is all"),
        ("user,,day,,tokens,1,", "id", "is empty"),
        ("key,a\u200bb,day,,tokens,1,", "id", "characters that cannot be seen"),
        ("all,,year,,tokens,1,", "period", "write day, week or month"),
        ("all,,day,Europe/Berln,tokens,1,", "tz", "is no time zone: did you mean Europe/Berlin?"),
        ("all,,day,,requests,1,", "measure", "write operations, tokens or cost"),
        ("all,,day,,tokens,,", "amount", "is empty: write a number"),
        ("all,,day,,tokens,0,", "amount", "it must be more than 0"),
        ("all,,day,,cost,-5,", "amount", "it must not be negative"),
        ("all,,day,,cost,inf,", "amount", "write a plain decimal number"),
        ("all,,day,,tokens,1.5,", "amount", "it has decimals, so it is refused, not rounded"),
        ("all,,day,,cost,0.0000000001,", "amount", "more than 9 decimals, so it is refused"),
        ("all,,day,,cost,1000000000000000,", "amount", "less than 1,000,000,000,000,000"),
        ("all,,day,,tokens,1,80%", "thresholds", "write whole percents from 1 to 1,000"),
        ("all,,day,,tokens,1,0", "thresholds", "write whole percents"),
        ("all,,day,,tokens,1,80 1001", "thresholds", "write whole percents"),
        ("all,,day,,tokens,1,80 80", "thresholds", "one stands there twice"),
    ],
)
def test_a_wrong_cell_is_one_line_with_its_place(
    tmp_path: Path, line: str, column: str, complaint: str
) -> None:
    path = write_budgets(tmp_path, "all,,day,,tokens,7,", line)
    with pytest.raises(HandWrittenError) as caught:
        read_budgets(path, read_prices(tmp_path / "prices.csv"))
    message = str(caught.value)
    assert message.startswith(f"{path}, line 3, column {column}: ")
    assert complaint in message
    assert "\n" not in message
    assert "\u200b" not in message
    assert r"\u200b" not in message, "an id is not quoted"


def test_the_same_budget_twice_and_a_cost_in_two_currencies_are_refused(tmp_path: Path) -> None:
    prices = read_prices(write_prices(tmp_path, "a,2024-01-01,usd,1,,1,\nb,2024-01-01,eur,1,,1,"))
    path = write_budgets(tmp_path, "all,,day,,tokens,1,", "all,,day,UTC,tokens,1.0,50")
    with pytest.raises(HandWrittenError, match="line 3: it is the same budget as in line 2"):
        read_budgets(path, prices)
    path = write_budgets(tmp_path, "all,,day,,cost,1,")
    with pytest.raises(HandWrittenError, match=r"line 2, column measure: .* in eur and usd, which"):
        read_budgets(path, prices)


# What is used


def spent_over(days: int) -> Iterator[Spent]:
    """Every 40 minutes something, by two users with two keys and three models."""
    for number, at in enumerate(range(START, START + days * DAY, 2_400)):
        yield Spent(
            at,
            ("ada", "bob", None)[number % 3],
            ("web", "batch")[number % 2],
            ("large", "small", "tiny")[number // 3 % 3],
            input=None if number % 11 == 0 else 1_000 * number,
            cached=number,
            output=None if number % 22 == 0 else number,
            responses=1 + number % 2,
            operations=number % 5,
        )


SPENT = [*spent_over(3)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days. Tests only read it."""
    home = tmp_path_factory.mktemp("spent")
    spend(home, SPENT, prices=PRICES)
    return home


def states_at(
    home: Path, folder: Path, lines: Sequence[str], at: float, pseudonyms: Pseudonyms | None = None
) -> list[BudgetState]:
    prices = read_prices(home / "prices.csv")
    lake = Lake(home / "lake")
    budgets = read_budgets(write_budgets(folder, *lines), prices)
    return budget_states(Snapshot(lake), lake, budgets, prices, at, pseudonyms)


def period_of(at: int, period: str, tz: str) -> tuple[int, int]:
    """By the clock of the zone."""
    day = datetime.fromtimestamp(at, ZoneInfo(tz)).replace(hour=0, minute=0, second=0)
    if period == "day":
        first, last = day, day + timedelta(days=1)
    elif period == "week":
        first = day - timedelta(days=day.weekday())
        last = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    return int(first.astimezone(UTC).timestamp()), int(last.astimezone(UTC).timestamp())


def used_by_hand(one: Spent, measure: str) -> Decimal | None:
    if measure == "operations":
        return Decimal(one.operations)
    if one.input is None and one.output is None:
        return None
    if measure == "tokens":
        return Decimal(one.total)
    read, written = one.input or 0, one.output or 0
    cached = min(one.cached or 0, read)
    later = one.at >= START + 2 * DAY  # the first of April
    prices = {"large": (5, 5, 20) if later else (Decimal("2.5"), Decimal("1.25"), 10)}
    prices["small"] = (1, 1, 1)
    if one.model not in prices:
        return None
    first, second, third = prices[one.model]
    with localcontext(EXACT):
        return ((read - cached) * first + cached * second + written * third) / Decimal(1_000_000)


MEASURES = ("operations", "tokens", "cost")
SCOPES = (("all", ""), ("user", "ada"), ("key", "batch"), ("user", "nobody"))


ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York")
MOMENTS = (START + 20 * HOUR + 59, START + DAY + 90, START + 3 * DAY - 1)


@pytest.mark.parametrize(
    ("tz", "at"),
    [
        pytest.param(tz, at, marks=[] if (place + number) % 4 == 1 else pytest.mark.slow)
        for place, tz in enumerate(ZONES)
        for number, at in enumerate(MOMENTS)
    ],
)
def test_what_is_used_is_what_plain_python_counts(
    home: Path, tmp_path: Path, tz: str, at: int
) -> None:
    asked = [
        (scope, id_, period, measure)
        for scope, id_ in SCOPES
        for period in ("day", "week", "month")
        for measure in MEASURES
    ]
    lines = [f"{scope},{id_},{period},{tz},{measure},5,1" for scope, id_, period, measure in asked]
    states = states_at(home, tmp_path, lines, at)
    for (scope, id_, period, measure), state in zip(asked, states, strict=True):
        start, end = period_of(at, period, tz)
        assert (state.period.start, state.period.end) == (start, end)
        through = at // 60 * 60
        of = [
            it
            for it in SPENT
            if start <= it.at < through
            and (scope == "all" or id_ == (it.user if scope == "user" else it.key))
        ]
        amounts = [(used_by_hand(it, measure), it.responses) for it in of]
        known = [amount for amount, _ in amounts if amount is not None]
        loaded = max(0, through - max(start, START))
        with localcontext(EXACT):
            used = sum(known, Decimal()) if known or (loaded and not of) else None
            assert state.used == used
            assert state.left == (None if used is None else 5 - used)
            assert state.reached == ([1] if used is not None and used * 20 >= 1 else [])
        assert state.unknown == sum(number for amount, number in amounts if amount is None)
        assert (state.elapsed, state.loaded) == (through - start, loaded)


def test_a_period_is_heading_for_what_it_comes_to_at_the_pace_of_what_is_loaded(
    tmp_path: Path,
) -> None:
    """The day has 23 hours: at noon of Berlin's clock, 11 of them are over."""
    spent = [Spent(START + 23 * HOUR + n * HOUR, operations=2) for n in range(11)]
    spend(tmp_path, spent)
    noon = START + 23 * HOUR + 11 * HOUR
    line = "all,,day,Europe/Berlin,operations,{},"
    [state] = states_at(tmp_path, tmp_path, [line.format(40)], noon)
    assert [state.used, state.left, state.percent] == [Decimal(22), Decimal(18), Decimal(55)]
    assert state.heading_for == 46
    assert (state.elapsed, state.loaded) == (11 * HOUR, 11 * HOUR)
    assert state.ends_at == noon + 9 * HOUR
    [enough] = states_at(tmp_path, tmp_path, [line.format(46)], noon)
    assert enough.ends_at is None, "the period ends before"
    [over] = states_at(tmp_path, tmp_path, [line.format(22)], noon)
    assert over.left == 0
    assert (over.ends_at, over.reached) == (None, [80, 100])
    [early] = states_at(tmp_path, tmp_path, [line.format(40)], START + 24 * HOUR - 60)
    assert early.used == 2
    assert (early.heading_for, early.ends_at) == (None, None)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (3, "100 %"),
        (1, "300 %"),
        (4, "75 %"),
        (2, "150 %"),
        (7, "42.8 %"),
        (3_001, "< 0.1 %"),
        (3_000, "0.1 %"),
        (Decimal("3.0001"), "99.9 %"),
        (Decimal("0.001"), "300,000 %"),
    ],
)
def test_the_share_that_is_used_is_rounded_down_so_no_threshold_seems_to_be_reached(
    tmp_path: Path, amount: Decimal | int, words: str
) -> None:
    spend(tmp_path, [Spent(START, operations=3)], days=1)
    [state] = states_at(tmp_path, tmp_path, ["all,,day,,operations,3,"], START + HOUR)
    state = replace(state, budget=replace(state.budget, amount=Decimal(amount)))
    assert share_of(state) == words
    assert share_of(replace(state, used=Decimal())) == "0 %"
    assert share_of(replace(state, used=None)) is None


@pytest.mark.parametrize(
    ("used", "left"),
    [
        ("5", "0.00 usd"),
        ("4.9999999999", "<0.000000001 usd"),
        ("5.0000000001", ">-0.000000001 usd"),
        ("5.000000001", "-0.000000001 usd"),
    ],
)
def test_what_is_left_or_too_much_is_never_nothing(tmp_path: Path, used: str, left: str) -> None:
    spend(tmp_path, [], days=1, prices="*,2024-01-01,usd,1,,1,")
    [state] = states_at(tmp_path, tmp_path, ["all,,day,,cost,5,"], START + HOUR)
    state = replace(state, used=Decimal(used))
    assert amount_of(state.budget, state.left) == left


def test_what_is_not_loaded_is_said_and_not_counted_as_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spent = [Spent(START + n * HOUR, model="tiny", operations=3) for n in range(12)]
    spend(tmp_path, spent, days=3, left_out=[1], through=START + 2 * DAY + 6 * HOUR)
    lines = [f"all,,{period},,operations,100," for period in ("month", "week", "day")]
    lines.append("user,ada,week,,cost,1,")
    at = START + 2 * DAY + 12 * HOUR
    month, week, day, cost = states_at(tmp_path, tmp_path, lines, at)
    assert [it.used for it in (month, week, day, cost)] == [Decimal(0)] * 4
    assert [it.loaded for it in (month, week, day, cost)] == [6 * HOUR] * 4
    assert (month.elapsed, cost.unknown) == (12 * HOUR, 0)
    march, before = states_at(tmp_path, tmp_path, [lines[0], lines[3]], START + 2 * DAY - 60)
    assert (march.used, march.loaded) == (Decimal(36), DAY)
    assert march.heading_for == 36 * 31
    assert (before.used, before.left, before.percent, before.heading_for) == (None,) * 4
    assert before.unknown == 12
    [none] = states_at(tmp_path, tmp_path, lines[2:3], START + 5 * DAY)
    assert (none.used, none.loaded, none.reached) == (None, 0, [])
    print_budgets([march, before, none], Console(width=80))
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "operations of everybody, month: 719 hours of 743 so far are not loaded" in said
    assert "cost of user ada, week: 12 responses of unknown cost beside" in said


def test_a_user_with_a_pseudonym_is_named_by_the_id_that_people_know(tmp_path: Path) -> None:
    pseudonyms = Pseudonyms(SecretStr("k" * 16))
    spent = [Spent(START, pseudonyms.of("ada"), operations=7)]
    spend(tmp_path, spent, days=1, fingerprint=pseudonyms.fingerprint)
    line = "user,ada,day,,operations,10,"
    [state] = states_at(tmp_path, tmp_path, [line], START + HOUR, pseudonyms)
    assert (state.used, state.budget.id) == (Decimal(7), pseudonyms.of("ada"))
    with pytest.raises(UserIdModeError):
        states_at(tmp_path, tmp_path, [line], START + HOUR)


# The command


def test_the_command_prints_a_table_or_json(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_budgets(tmp_path, "all,,month,Europe/Berlin,cost,0.5,1", "user,ada,day,,tokens,9,")
    settings = {"MKA1_USAGE_HOME": str(home), "MKA1_USAGE_BUDGETS": str(path)}
    clean_environment(monkeypatch, tmp_path, settings)
    ended = command(["budgets", "--at", "2024-03-30T12:00:00"])
    assert (ended.code, ended.err) == (0, "")
    assert "cost of everybody" in ended.text
    assert "month from 2024-03-01 (Europe/Berlin)" in ended.text
    assert "0.50 usd" not in ended.text
    assert "0.5 usd" in ended.text
    ended = command(["budgets", "--at", "2024-03-30T12:00:00", "--format", "json"])
    cost, tokens = json.loads(ended.text)
    assert (cost["currency"], cost["amount"], cost["reached"]) == ("usd", "0.5", [1])
    assert cost["start_time"] == "2024-02-29T23:00:00Z"
    assert cost["seconds_loaded"] == 12 * HOUR
    assert Decimal(cost["used"]) + Decimal(cost["left"]) == Decimal("0.5")
    assert tokens["used"] == str(
        sum(it.total for it in SPENT if it.user == "ada" and it.at < START + 12 * HOUR)
    )


def test_a_command_without_budgets_or_with_wrong_ones_says_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})
    ended = command(["budgets"])
    assert (ended.code, ended.out) == (1, b"")
    assert "there are no budgets: write them into" in ended.err
    path = write_budgets(tmp_path, "all,,day,,tokens,x,")
    monkeypatch.setenv("MKA1_USAGE_BUDGETS", str(path))
    ended = command(["budgets"])
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith(f"mka1-usage: error: {path}, line 2, column amount: ")
    assert ended.err.count("\n") == 1
