"""Budgets of teams, and names in what budgets and alerts say."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path

import pytest

from pipeline.alerts.alert import shown
from pipeline.alerts.spikes import spikes
from pipeline.timeline import DAY
from tests.alerts.history import HOUR, History, thresholds
from tests.alerts.history import START as BEGIN
from tests.fixtures_local import clean_environment, command
from tests.named import names as names_of
from tests.named import write_names
from tests.names.people import SPENT, team

HEADER = "scope,id,period,tz,measure,amount,thresholds"
TEAMS = ("research", "sales", "shop")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    budgets = str(tmp_path / "budgets.csv")
    variables = {"MKA1_USAGE_HOME": str(home), "MKA1_USAGE_BUDGETS": budgets}
    clean_environment(monkeypatch, tmp_path, variables)


def write_budgets(tmp_path: Path, *lines: str) -> None:
    (tmp_path / "budgets.csv").write_text("\n".join([HEADER, *lines]), encoding="utf-8")


def test_a_budget_of_a_team_counts_the_usage_of_its_users_and_keys(tmp_path: Path) -> None:
    write_budgets(
        tmp_path,
        *(f"team,{it},month,,{of},1000," for it in TEAMS for of in ("operations", "tokens")),
    )
    ended = command(["budgets", "--at", "2024-03-31T23:00", "--format", "json"])
    assert ended.code == 0, ended.err
    operations, tokens = Counter[str | None](), Counter[str | None]()
    for spent in SPENT:
        operations[team(spent)] += spent.operations
        tokens[team(spent)] += spent.total
    assert [(it["id"], it["used"]) for it in json.loads(ended.text)] == [
        (id_, str(of[id_])) for id_ in TEAMS for of in (operations, tokens)
    ]


def test_budgets_show_the_name_with_the_id(tmp_path: Path) -> None:
    write_budgets(tmp_path, "team,research,month,,operations,9,", "user,carl,day,,operations,9,")
    ended = command(["budgets", "--at", "2024-03-31T23:00"])
    assert "operations of team Research (research)" in ended.text
    assert "operations of user carl" in ended.text
    found = json.loads(command(["budgets", "--at", "2024-03-31", "--format", "json"]).text)
    assert [it.get("name") for it in found] == ["Research", None]


def test_a_budget_of_a_team_that_nobody_is_in_is_refused_in_one_line(tmp_path: Path) -> None:
    write_budgets(tmp_path, "all,,day,,tokens,9,", "team,reserch,month,,operations,9,")
    ended = command(["budgets"])
    assert (ended.code, ended.text) == (2, "")
    assert ended.err == (
        "mka1-usage: error: the budget in line 3 is of team 'reserch', which nobody is in: give "
        "users or keys that team in names.csv\n"
    )


def test_alerts_name_whose_budget_is_used_and_lead_to_a_query_that_answers(tmp_path: Path) -> None:
    write_budgets(tmp_path, "team,research,month,,operations,100,100")
    ended = command(["alerts", "--at", "2024-03-31T23:30"])
    [line] = [it for it in ended.text.splitlines() if "operations of" in it]
    assert line.startswith(
        "error: operations of team Research (research) in the month: 129 of 100 are used"
    )
    _, query = line.split("; look further: mka1-usage ")
    found = command([*shlex.split(query), "--format", "csv"]).text.splitlines()
    assert [row.split(",")[1] for row in found] == ["operations", "1", "128"]


def test_names_that_are_wrong_stop_no_alert_that_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_names(tmp_path, "user,,A,")
    monkeypatch.setenv("MKA1_USAGE_NAMES", str(path))
    write_budgets(tmp_path, "user,ada,month,,operations,100,100")
    asked = ["alerts", "--at", "2024-03-31T23:30"]
    assert "operations of user ada in the month: 129 of 100" in command(asked).text
    write_budgets(tmp_path, "team,research,month,,operations,100,100")
    ended = command(asked)
    assert "error: budget: can't be looked for: " in ended.err
    assert "names.csv, line 2, column id: it is empty" in ended.err


def test_who_is_far_above_the_usual_is_named_and_asked_for_by_the_id() -> None:
    at = BEGIN + 28 * DAY + 12 * HOUR
    history = History()
    history.daily(100, range(9, 17))
    history.use(at, 1_250)
    with history.tables("1h") as con:
        named = names_of({"u": "Ada"}, {"k": "Web shop"})
        found = spikes(con, "1h", at, thresholds(), names=named).findings
    assert {one.what.partition(":")[0] for one in found} == {"user Ada (u)", "key Web shop (k)"}
    assert any("user_id = 'u'" in one.query for one in found)


@pytest.mark.parametrize(
    ("id_", "name", "words"),
    [
        ("u1", None, "user u1"),
        ("u1", "Ada", "user Ada (u1)"),
        ("u1", "A\u200bda" + "x" * 99, "user A\\u200bda" + "x" * 76 + "… (u1)"),
        (None, None, "calls without a user"),
    ],
)
def test_a_name_stands_before_the_id(id_: str | None, name: str | None, words: str) -> None:
    assert shown(id_, "user", name) == words
