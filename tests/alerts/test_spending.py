"""The alert about budgets: a line for each threshold that is reached, and a query that answers."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pipeline.alerts.alert import Evaluation
from pipeline.alerts.spending import spent
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.settings import load_settings
from pipeline.timeline import parse_time
from tests.fixtures_local import Ended, clean_environment, command
from tests.pricing.spent import START, Spent, spend

HOUR = 3_600
HEADER = "scope,id,period,tz,measure,amount,thresholds"
PRICES = "large,2024-01-01,usd,2.50,1.25,10,"
SPENT = (
    *(Spent(START + hour * HOUR, input=100_000, output=50_000) for hour in range(12)),
    Spent(START + HOUR, "it's $", model="tiny", responses=3),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day. Tests only read it."""
    home = tmp_path_factory.mktemp("spent")
    spend(home, SPENT, days=1, prices=PRICES)
    return home


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    budgets = str(tmp_path / "budgets.csv")
    settings = {"MKA1_USAGE_HOME": str(home), "MKA1_USAGE_BUDGETS": budgets}
    clean_environment(monkeypatch, tmp_path, settings)


def alerts(tmp_path: Path, *lines: str) -> Ended:
    (tmp_path / "budgets.csv").write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return command(["alerts", "--at", "2024-03-30T12:30:00"])


def test_a_threshold_that_is_reached_is_a_line_and_one_of_all_of_it_an_error(
    tmp_path: Path,
) -> None:
    ended = alerts(
        tmp_path,
        "user,ada,day,Asia/Kathmandu,cost,9.5,80 95",
        "key,web,day,,operations,13,80 100 200",
        "all,,day,,tokens,100000000,",
    )
    assert (ended.code, ended.err) == (1, "")
    lines = ended.text.splitlines()
    found = [line.split("; look further: ")[0] for line in lines]
    assert found == [
        "error: operations of key web in the day: 13 of 13 are used since 2024-03-30T00:00:00Z, "
        "100 %: the threshold of 100 % is reached",
        "warning: cost of user ada in the day: 9.00 usd of 9.50 usd are used since "
        "2024-03-29T18:15:00Z, 94.7 %: the threshold of 80 % is reached; 5 hours of 18 so far are "
        "not loaded",
        "warning: operations of key web in the day: 13 of 13 are used since "
        "2024-03-30T00:00:00Z, 100 %: the threshold of 80 % is reached",
    ]


def test_a_finding_leads_to_a_query_that_has_an_answer(tmp_path: Path) -> None:
    lines = [f"user,it's $,{period},Asia/Kathmandu,tokens,9,1" for period in ("day", "week")]
    lines += ["user,ada,month,,cost,1,50", "key,web,day,,operations,3,60"]
    for line in alerts(tmp_path, *lines).text.splitlines():
        _, query = line.split("; look further: mka1-usage ")
        ended = command([*shlex.split(query), "--format", "csv"])
        assert ended.code == 0
        assert len(ended.text.splitlines()) == 2
        assert ended.text.startswith("local_start,")


def test_the_worst_comes_first_and_unknown_is_said_beside(tmp_path: Path) -> None:
    ended = alerts(tmp_path, "user,it's $,day,,cost,1,", "all,,day,,cost,9,100")
    [line] = ended.text.splitlines()
    assert line.startswith(
        "error: cost of everybody in the day: 9.00 usd of 9.00 usd are used since "
        "2024-03-30T00:00:00Z, 100 %: the threshold of 100 % is reached; 3 responses of unknown "
        "cost beside; look further: "
    )


def test_a_wrong_price_list_is_an_error_where_a_budget_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "none.csv"
    monkeypatch.setenv("MKA1_USAGE_PRICES", str(path))
    ended = alerts(tmp_path, "all,,day,,tokens,9,", "all,,day,,cost,9,100")
    assert (ended.code, ended.text) == (1, "")
    assert f"budget: can't be looked for: {path} cannot be read" in ended.err
    assert "9 are used" in alerts(tmp_path, "all,,day,,tokens,9,1").text


def test_a_wrong_file_is_an_error_of_this_alert_alone(tmp_path: Path) -> None:
    ended = alerts(tmp_path, "all,,day,,tokens,x,")
    assert (ended.code, ended.text) == (1, "")
    path = tmp_path / "budgets.csv"
    assert ended.err == (
        f"mka1-usage: error: budget: can't be looked for: {path}, line 2, column amount: amount is "
        "'x': write a plain decimal number such as 2.50\n"
    )


def test_a_budget_of_which_nothing_is_known_says_what_could_have_been_found(
    tmp_path: Path, home: Path
) -> None:
    (tmp_path / "budgets.csv").write_text(f"{HEADER}\nkey,web,day,,operations,13,80 100\n")
    lake, settings = Lake(home / "lake"), load_settings()

    def at(moment: str) -> Evaluation:
        return spent(lake, Snapshot(lake), settings, parse_time(moment))

    assert (unknown := at("2024-03-30T00:00:00")).unjudged is not None
    found = at("2024-03-30T12:30:00")
    assert {(one.topic, one.since) for one in found.findings} == {*unknown.unknown}
    assert found.unknown == []
