"""The price list in `usage.duckdb`: macros over it, and commands that go by the file of now."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.lake.catalog import prices_of
from pipeline.orchestration.assets.finalize import build
from pipeline.orchestration.resources import Services
from pipeline.settings import load_settings
from tests.fixtures_local import Ended, clean_environment, command
from tests.lake.served import Row
from tests.pricing.spent import HEADER, START, Spent, spend, write_prices

HOUR = 3_600
DAY = 24 * HOUR
PRICES = (
    "large,2024-01-01,usd,2.50,1.25,10,\nlarge,2024-03-31,usd,5,,20,40\nsm*,2024-01-01,usd,1,,1,"
)
SPENT = (
    Spent(START + 23 * HOUR, input=1_000_000, cached=200_000, output=500_000),
    Spent(START + 25 * HOUR, input=1_000_000, output=500_000, reasoning=100_000),
    Spent(START + 25 * HOUR, "bob", model="small", input=None, output=3),
    Spent(START + 26 * HOUR, "bob", model="tiny", responses=4),
    Spent(START + 26 * HOUR, "bob", input=None, output=None, responses=2),
)


def meter(at: int, measure: str, value: int, model: str = "large") -> Row:
    return {
        **{"endpoint": "responses", "start_time": at, "end_time": at + 60, "user_id": "ada"},
        **{"api_key_id": "web", "model": model, "measure": measure, "value": value},
    }


METERS = [
    meter(START, "num_model_requests", 3),
    meter(START, "input_tokens", 2_000_000),
    meter(START, "input_cached_tokens", 1_000_000),
    meter(START, "vectors", 5),
    meter(START, "input_tokens", 5, "tiny"),
    {**meter(START, "input_tokens", 7), "endpoint": "extract"},
]


def bill(cost_nano: int, **of: object) -> Row:
    start = START + DAY
    return {
        **{"start_time": start, "end_time": start + DAY, "user_id": "ada", "api_key_id": "web"},
        **{"model": "large", "currency": "USD", "cost_nano": cost_nano},
        **of,
    }


BILLS = [
    bill(17_000_000_000, team_id="t"),
    bill(0, team_id="u"),
    bill(5, user_id="bob", model="tiny"),
    bill(5, user_id="carl"),
    bill(4_000, user_id="bob", model="small"),
]


SMALL_BILLS = (("small", Decimal("0.000004")), ("tiny", Decimal("5e-9")))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with prices in its catalog. Tests only read it."""
    home = tmp_path_factory.mktemp("priced")
    spend(home, SPENT, tables={"meters_1m": METERS, "costs_1d": BILLS}, prices=PRICES)
    return home


@pytest.fixture
def run(loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run a command over it."""
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(loaded)})
    return lambda *args: command(args)


def rows(run: Callable[..., Ended], query: str) -> list[list[Any]]:
    ended = run("sql", "--format", "json", query)
    assert (ended.code, ended.err) == (0, "")
    return [[*row.values()] for row in json.loads(ended.text, parse_float=Decimal)]


def test_a_bucket_in_a_zone_costs_what_each_utc_day_in_it_does(run: Callable[..., Ended]) -> None:
    query = (
        "select user_id, model, currency, cast(cost as varchar), num_responses, num_unpriced "
        "from cost_by('1d', tz := '{}') order by all"
    )
    first = ["ada", "large", "usd", "7.250000000000000", 1, 0]
    second = ["ada", "large", "usd", "17.000000000000000", 1, 0]
    others = [
        ["bob", "large", "usd", None, 2, 2],
        ["bob", "small", "usd", "0.000003000000000", 1, 0],
        ["bob", "tiny", None, None, 4, 4],
    ]
    assert rows(run, query.format("UTC")) == [second, first, *others]
    both = ["ada", "large", "usd", "24.250000000000000", 2, 0]
    assert rows(run, query.format("Europe/Berlin")) == [both, *others]


def test_tokens_that_the_api_reports_have_the_same_prices(run: Callable[..., Ended]) -> None:
    query = "select cost, num_responses, num_unpriced from cost_by('1mo', source := 'reported')"
    assert rows(run, query) == [[Decimal("3.75"), 3, 0], [None, None, 1]]
    assert run("sql", "from cost_by('1d', source := 'billed')").code == 2


def test_the_bill_stands_beside_the_computed_cost(run: Callable[..., Ended]) -> None:
    query = (
        "select user_id, model, currency, cast(billed as varchar), cast(computed as varchar), "
        "cast(difference as varchar), class from costs_compared() order by all"
    )
    zeros = "000000000000000"
    assert rows(run, query) == [
        ["ada", "large", "usd", f"17.{zeros}", f"17.{zeros}", f"0.{zeros}", "match"],
        ["ada", "large", "usd", None, f"7.25{zeros[2:]}", None, "not billed"],
        ["bob", "large", "usd", None, None, None, "unpriced"],
        [
            *("bob", "small", "usd"),
            "0.000004000000000",
            "0.000003000000000",
            *("0.000001000000000", "different"),
        ],
        ["bob", "tiny", "usd", "0.000000005000000", None, None, "unpriced"],
        ["carl", "large", "usd", "0.000000005000000", None, None, "no tokens"],
    ]


def test_the_bill_stands_beside_what_the_endpoints_report_too(run: Callable[..., Ended]) -> None:
    query = (
        "select user_id, model, cast(billed as double), cast(computed as double), class "
        "from costs_compared(source := 'reported') order by all"
    )
    assert rows(run, query) == [
        ["ada", "large", 17, None, "no tokens"],
        ["ada", "large", None, Decimal("3.75"), "not billed"],
        ["ada", "tiny", None, None, "unpriced"],
        *(["bob", model, cost, None, "no tokens"] for model, cost in SMALL_BILLS),
        ["carl", "large", Decimal("5e-9"), None, "no tokens"],
    ]


def test_a_difference_of_less_than_a_billionth_has_no_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = [Spent(START + DAY, "ada", "web", model="large", input=1, output=0)]
    prices = "large,2024-01-01,usd,0.000001,,1,"
    spend(tmp_path, spent, tables={"costs_1d": [bill(0)]}, prices=prices)
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path)})
    [match] = [line for line in command(["reconcile"]).text.splitlines() if "match" in line]
    assert match.split()[-2] == "0.000000000"


def test_which_row_of_the_list_counts_can_be_asked(run: Callable[..., Ended]) -> None:
    query = "select distinct model, priced_as, place from price_of() order by all"
    assert rows(run, query) == [["large", "large", 1], ["small", "sm*", 1]]


def test_a_command_goes_by_the_price_list_of_now(
    run: Callable[..., Ended], loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_prices(tmp_path, "*,2024-01-01,usd,1,,1,")
    before = (loaded / "usage.duckdb").read_bytes()
    monkeypatch.setenv("MKA1_USAGE_PRICES", str(path))
    query = "select sum(cost) as cost, cast(sum(num_unpriced) as int) from cost_by('1mo')"
    assert rows(run, query) == [[Decimal("3.002003"), 2]]
    assert (loaded / "usage.duckdb").read_bytes() == before


def test_a_wrong_price_list_fails_a_query_with_its_line(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"{HEADER}\nm,2024-01-01,usd,-1,,1,\n")
    for text in (str(path), str(tmp_path / "none.csv")):
        monkeypatch.setenv("MKA1_USAGE_PRICES", text)
        for arguments in (["sql", "from prices"], ["prices", "check"]):
            ended = run(*arguments)
            assert (ended.code, ended.out) == (2, b"")
            assert ended.err.startswith(f"mka1-usage: error: {text}")
            assert ended.err.count("\n") == 1


def test_a_run_with_a_wrong_price_list_warns_and_keeps_the_prices(tmp_path: Path) -> None:
    home = tmp_path / "home"
    spend(home, SPENT[:1], days=1, prices=PRICES)
    settings = load_settings(home=home)
    said: list[str] = []
    services = Services(load=lambda: settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Services, "warn", lambda _, message: said.append(message))
        for lines, number in (
            (PRICES, 3),
            ("m,2024-01-01,usd,-1,,1,", 3),
            ("*,2024-01-01,usd,1,,1,", 1),
        ):
            write_prices(home, lines)
            build(services)
            table = prices_of(settings.catalog)
            assert table is not None
            assert table.num_rows == number
    [message] = said
    assert message.startswith(f"{home / 'prices.csv'}, line 2, column input: ")
    assert message.endswith("the catalog keeps the prices that it had")


def test_check_names_what_has_no_price_and_what_nothing_uses(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_prices(
        tmp_path, "large,2024-03-31,usd,1,,1,\nl*,2024-03-31,usd,1,,1,\nold,2024-01-01,usd,1,,1,"
    )
    monkeypatch.setenv("MKA1_USAGE_PRICES", str(path))
    ended = run("prices", "check")
    assert ended.code == 1
    said = [re.findall(r"[^ │]+", line) for line in ended.text.splitlines()]
    assert ["small", "2024-03-31", "2024-03-31", "1", "-", "3"] in said
    assert ["tiny", "2024-03-31", "2024-03-31", "4", "1,000", "1,000"] in said
    assert "  large: large, not l*, from 2024-03-31" in ended.text
    assert "  line 3: l*, from 2024-03-31" in ended.text
    assert "  line 4: old, from 2024-01-01" in ended.text
    write_prices(tmp_path, "*,2024-01-01,usd,1,,1,")
    ended = run("prices", "check")
    assert (ended.code, ended.err) == (0, "")
    assert "Every model in use has a price." in ended.text
