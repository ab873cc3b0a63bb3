"""Costs are judged as operations are, by the price list, each currency by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from pipeline.alerts.alert import Evaluation
from pipeline.alerts.costs import costly
from pipeline.alerts.evaluate import evaluate
from pipeline.lake.catalog import build_catalog
from pipeline.pricing.prices import PriceList, read_prices
from pipeline.query import ad_hoc
from pipeline.settings import Settings, load_settings
from pipeline.timeline import DAY, Width
from tests.alerts.history import HOUR, START, History, thresholds
from tests.alerts.responses import Responses

LAST = START + 28 * DAY + 12 * HOUR
PRICES = "m,2024-01-01,usd,2.5,0\nother,2024-01-01,eur,2,0"


def price_list(folder: Path, lines: str = PRICES) -> PriceList:
    path = folder / "prices.csv"
    path.write_text(f"model,valid_from,currency,input,output\n{lines}\n", encoding="utf-8")
    return read_prices(path)


@dataclass(frozen=True)
class Judge:
    folder: Path

    def judged(
        self,
        responses: Responses,
        lines: str = PRICES,
        width: Width = "1h",
        start: int = LAST,
        **changed: float,
    ) -> Evaluation:
        with responses.tables(width) as con:
            return costly(con, width, start, thresholds(**changed), price_list(self.folder, lines))


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    return Judge(tmp_path)


def busy(days: int = 29, tokens: int = 1_000_000) -> Responses:
    """So many tokens an hour, and eight times as many in the last one."""
    responses = Responses(days=days)
    responses.daily(10, 0, tokens)
    responses.ask(START + (days - 1) * DAY + 12 * HOUR, 10, 0, 8 * tokens)
    return responses


def test_a_finding_says_what_it_cost_and_what_it_usually_does(judge: Judge) -> None:
    found = judge.judged(busy()).findings
    assert [one.subject for one in found] == ["1h user 'u' usd", "1h key 'k' usd"]
    assert found[0].what == (
        "user u: 20.00 usd in the hour from 2024-01-29T12:00:00Z, 8.0 times its usual busiest hour "
        "of a day of 2.50 usd (9 of 10 of 28 days)"
    )
    assert (found[0].alert, found[0].severity) == ("cost", "warning")


def test_a_day_is_held_against_days(judge: Judge) -> None:
    responses = busy()
    for hour in range(9, 17):
        responses.ask(START + 28 * DAY + hour * HOUR, 10, 0, 8_000_000)
    found = judge.judged(responses, width="1d", start=START + 28 * DAY).findings[0]
    assert found.what == (
        "user u: 160.00 usd on 2024-01-29, 8.0 times its usual day of 20.00 usd "
        "(9 of 10 of 28 days)"
    )


@pytest.mark.parametrize(("least", "found"), [(20, True), (20.01, False)])
def test_small_sums_never_alert(judge: Judge, least: float, found: bool) -> None:
    assert bool(judge.judged(busy(), alert_spike_cost=least).findings) == found


def test_currencies_are_not_added_up(judge: Judge) -> None:
    responses = busy(tokens=500_000)
    responses.daily(10, 0, 500_000, model="other")
    responses.ask(LAST, 10, 0, 4_000_000)
    responses.ask(LAST, 10, 0, 6_000_000, model="other")
    assert [one.subject for one in judge.judged(responses).findings] == [
        "1h user 'u' eur",
        "1h key 'k' eur",
        "1h user 'u' usd",
        "1h key 'k' usd",
    ]


def test_a_first_price_is_no_spike(judge: Judge) -> None:
    responses = busy(tokens=10_000_000)
    assert judge.judged(responses, "m,2024-01-29,usd,2.5,0").findings == []
    changed = "m,2024-01-01,usd,0.5,0\nm,2024-01-29,usd,2.5,0"
    assert "40.0 times its usual" in judge.judged(responses, changed).findings[0].what


def test_what_another_model_costs_is_not_known_and_not_nothing(judge: Judge) -> None:
    responses = busy()
    for day in range(START, START + 25 * DAY, DAY):
        responses.ask(day + 13 * HOUR, 1, 0, 5, model="unpriced")
    assert judge.judged(responses).findings == []


def test_failed_responses_without_tokens_leave_a_day_known(judge: Judge) -> None:
    responses = busy()
    for day in range(START, START + 28 * DAY, DAY):
        responses.ask(day + 13 * HOUR, 1, 1, None)
    assert "(9 of 10 of 28 days)" in judge.judged(responses).findings[0].what


def settings(home: Path) -> Settings:
    return load_settings(home=home)


def test_they_are_judged_where_there_is_a_price_list(tmp_path: Path) -> None:
    history = History(days=9)
    history.daily(100)
    now = START + 8 * DAY + 13 * HOUR
    lake = history.publish(tmp_path, through=now, catalog=False)
    busy(9).publish(lake, now)

    def found() -> Evaluation:
        return evaluate(lake, thresholds(), float(now), ("cost",), settings(tmp_path))["cost"]

    assert found() == Evaluation()
    prices = price_list(tmp_path)
    build_catalog(lake, tmp_path / "usage.duckdb", prices=prices.table)
    assert [one.subject for one in found().findings] == ["1h user 'u' usd", "1h key 'k' usd"]
    for one in found().findings:
        out = BytesIO()
        # There are no minutes in this lake to compute a cost of.
        ad_hoc.export(tmp_path / "usage.duckdb", lake, one.query, "json", out)
        assert json.loads(out.getvalue()) == []
    (tmp_path / "prices.csv").write_text("nonsense\n", encoding="utf-8")
    assert not found().lines
    assert "prices.csv" in str(found().unjudged)
