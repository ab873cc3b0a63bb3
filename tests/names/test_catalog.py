"""Names and teams in `usage.duckdb`: views and macros that any client can ask."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.lake.catalog import build_catalog, names_of, prices_of
from pipeline.lake.store import Lake
from pipeline.names.file import read_names
from pipeline.orchestration.assets.finalize import build
from pipeline.orchestration.resources import Services
from pipeline.pricing.prices import read_prices
from pipeline.settings import load_settings
from tests.fixtures_local import clean_environment, command
from tests.named import write_names
from tests.names.people import LINES, SPENT, team
from tests.pricing.spent import spend


def ask(home: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(str(home / "usage.duckdb"), read_only=True)) as con:
        return con.sql(query).fetchall()


def test_the_table_is_what_the_file_says(home: Path) -> None:
    assert ("user", "ada", "Ada Lovelace", "research") in ask(home, "from names")
    assert ("user", "carl", None, "sales") in ask(home, "from names")
    assert len(ask(home, "from names")) == len(LINES)


def test_names_never_merge_two_ids_and_ids_without_one_show_as_they_are(home: Path) -> None:
    users = dict(ask(home, "select user_id, user_name from user_names"))
    assert users == {
        "ada": "Ada Lovelace (ada)",
        "bob": "Ada Lovelace (bob)",
        "eve": "bob",
        "carl": "carl",
        "gone": "Somebody who left",
    }
    assert len({*users.values()}) == len(users)
    assert ask(home, "select api_key_id, api_key_name, team_id from api_key_names") == [
        ("batch", "batch", None),
        ("web", "Web shop", "shop"),
    ]
    assert ask(home, "from team_names") == [
        ("research", "Research (research)", "team"),
        ("sales", "sales", "team"),
        ("shop", "Research (shop)", "cost_centre"),
    ]


def test_usage_by_team_is_that_of_users_and_then_of_keys(home: Path) -> None:
    wanted = Counter[str | None]()
    for spent in SPENT:
        wanted[team(spent)] += spent.operations
    found = ask(home, "select team_id, num_operations from team_usage_by('1w', tz := 'Asia/Tokyo')")
    assert dict(found) == wanted
    shares = ask(home, "select id, team_name, num_operations from share_by_team('1mo') order by 1")
    assert {id_: n for id_, _, n in shares} == wanted
    top = ask(home, "select place, id, num_operations from top_teams(2, days := 9)")
    most = sorted(wanted.items(), key=lambda it: -it[1])
    assert top == [(place, *it) for place, it in enumerate(most[:2], 1)]
    growth = ask(
        home,
        "select team_id, num_operations, previous, team_name from growth_by_team('1d') "
        "order by team_id",
    )
    assert growth == [
        ("research", 128, 1, "Research (research)"),
        ("shop", 256, 34, "Research (shop)"),
    ]


def test_tokens_and_cost_by_team_have_the_sums_of_all(home: Path) -> None:
    wanted = Counter[tuple[str | None, str | None]]()
    for spent in SPENT:
        wanted[team(spent), spent.model] += spent.total
    found = ask(
        home,
        "select team_id, model, sum(total_tokens) from team_tokens_by('1d') group by all",
    )
    assert {(id_, model): int(n) for id_, model, n in found} == wanted
    top = ask(home, "select id, total_tokens from top_teams_by_tokens(9, days := 9)")
    by_team = Counter[str | None]()
    for (of, _), tokens in wanted.items():
        by_team[of] += tokens
    assert {id_: int(n) for id_, n in top} == by_team
    costs = ask(home, "select team_id, currency, sum(cost) from team_cost_by('1d') group by all")
    assert {(it, money): cost for it, money, cost in costs} == {
        (it, {"large": "usd", "small": "eur"}[str(model)]): Decimal(tokens).scaleb(-6)
        * (1 if model == "large" else 2)
        for (it, model), tokens in wanted.items()
    }


def test_without_names_everybody_shows_as_the_id_and_is_in_no_team(tmp_path: Path) -> None:
    spend(tmp_path, SPENT[:2])
    assert ask(tmp_path, "from user_names") == [("ada", "ada", None), ("bob", "bob", None)]
    assert ask(tmp_path, "select team_id, team_name, num_operations from team_usage_by('1w')") == [
        (None, None, 3)
    ]


def test_sql_goes_by_the_file_of_now(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_names(tmp_path, "user,ada,Countess,")
    variables = {"MKA1_USAGE_HOME": str(home), "MKA1_USAGE_NAMES": str(path)}
    clean_environment(monkeypatch, tmp_path, variables)
    asked = ["sql", "select user_name from user_names where user_id = 'ada'", "--format", "csv"]
    assert command(asked).text.split() == ["user_name", "Countess"]
    path.write_text("kind,id\n", encoding="utf-8")
    ended = command(asked)
    assert (ended.code, ended.text) == (2, "")
    assert "names.csv, line 1: the column name is missing" in ended.err
    assert names_of(home / "usage.duckdb") == read_names(home / "names.csv").table


def test_names_are_there_after_old_minutes_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = spend(tmp_path, SPENT, prices="large,2024-01-01,usd,1,,1,")
    names = read_names(write_names(tmp_path, *LINES)).table
    prices = read_prices(tmp_path / "prices.csv").table
    build_catalog(lake, tmp_path / "usage.duckdb", prices=prices, names=names)
    variables = {"MKA1_USAGE_HOME": str(tmp_path), "MKA1_USAGE_KEEP_MINUTES_DAYS": "90"}
    clean_environment(monkeypatch, tmp_path, variables)
    ended = command(["prune"])
    assert "minutes of 3 days dropped" in ended.err
    assert prices_of(tmp_path / "usage.duckdb") == prices
    assert names_of(tmp_path / "usage.duckdb") == names


def test_what_is_wrong_with_the_names_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})
    ended = command(["names", "check"])
    assert ended.code == 0, ended.err
    assert ended.text == (
        "4 of 4 users in use are in the file\n"
        "1 of 2 keys in use is in the file\n"
        "\nNot in the file, keys who use most first:\n"
        "  batch\n"
        "\nNothing that is loaded uses:\n"
        "  line 6: a user named Somebody who left\n"
        "\nIn teams without a line, so without a name:\n"
        "  sales\n"
        "\nSeveral have the same name, so each is shown with its id:\n"
        "  Ada Lovelace: lines 2, 3\n"
    )


def test_a_check_without_a_file_or_days_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path)})
    ended = command(["names", "check"])
    assert ended.code == 1
    assert "note: there are no names in names.csv, so ids show as they are" in ended.err
    assert "nothing is loaded in lake" in ended.err
    assert not Lake(tmp_path / "lake").all_days()


def test_a_run_with_a_wrong_file_warns_and_keeps_the_names(tmp_path: Path) -> None:
    spend(tmp_path, SPENT[:1])
    settings, said = load_settings(home=tmp_path), list[str]()
    services = Services(load=lambda: settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Services, "warn", lambda _, message: said.append(message))
        for line, names in (
            ("user,ada,Ada,", [("ada", "Ada", None)]),
            ("user,,Ada,", [("ada", "Ada", None)]),
            ("user,ada,Countess,crew", [("ada", "Countess", "crew")]),
        ):
            write_names(tmp_path, line)
            build(services)
            assert ask(tmp_path, "from user_names") == names
    [warning] = said
    assert warning.endswith(
        "names.csv, line 2, column id: it is empty; the catalog keeps the names that it had"
    )
