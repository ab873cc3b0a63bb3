"""With pseudonyms the file has real ids, and none of them, and no name of a person, gets out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.lake.store import Lake
from pipeline.orchestration.assets.finalize import build
from pipeline.orchestration.resources import Services
from pipeline.pseudonyms import Pseudonyms
from pipeline.report.source import Only
from pipeline.serve.page_question import Question
from pipeline.serve.pages import Pages
from pipeline.settings import load_settings
from tests.fixtures_local import Ended, clean_environment, command
from tests.named import write_names
from tests.pricing.spent import START, Spent, spend

KEY = "planted-pseudonym-key-0001"
PSEUDONYMS = Pseudonyms(SecretStr(KEY))
REAL = ("alice.real", "bob.real", "gone.real")
PEOPLE = ("Alice Liddell", "Bob Builder", "Gone Girl")
COMMANDS = (
    ["names", "check"],
    ["sql", "from names"],
    ["sql", "from user_names"],
    ["sql", "from team_usage_by('1mo')", "--format", "csv"],
    ["export", "one", "--format", "duckdb", "--table", "dim_user", "--table", "fact_usage"],
    ["budgets", "--at", "2024-03-30T12:00"],
    ["alerts", "--at", "2024-03-30T12:00"],
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home under pseudonyms, its catalog built by what a run does, and names outside of it."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    outside.mkdir()
    spent = [
        Spent(START + n * 3_600, PSEUDONYMS.of(it), f"key{n}") for n, it in enumerate(REAL[:2])
    ]
    spend(home, spent, fingerprint=PSEUDONYMS.fingerprint)
    lines = [f"user,{id_},{name},crew" for id_, name in zip(REAL, PEOPLE, strict=True)]
    path = write_names(outside, *lines, "key,key0,Web shop,", "team,crew,The crew,")
    budgets = outside / "budgets.csv"
    budgets.write_text(
        "scope,id,period,measure,amount\nteam,crew,month,operations,1\n"
        f"user,{REAL[0]},month,operations,1\n"
    )
    variables = {
        **{"MKA1_USAGE_HOME": str(home), "MKA1_USAGE_PSEUDONYM_KEY": KEY},
        **{"MKA1_USAGE_NAMES": str(path), "MKA1_USAGE_BUDGETS": str(budgets)},
    }
    work = tmp_path / "work"
    work.mkdir()
    clean_environment(monkeypatch, work, variables)
    build(Services(load=load_settings))
    return home


def found(*folders: Path) -> Iterator[str]:
    """Where something that names a person stands, in files and their names."""
    for folder in folders:
        for path in folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            for secret in (*REAL, *PEOPLE):
                if secret.encode() in content or secret in path.name:
                    yield f"{secret} in {path.name}"


@pytest.mark.slow
def test_no_real_id_gets_into_the_report_and_all_tables(home: Path) -> None:
    for asked in (
        *("report --png pictures", "report --user alice.real --team crew --png pictures"),
        *("report --team crew", "export bi", "export csv --format csv"),
    ):
        ended = command(asked.split())
        assert ended.code == 0, ended.err
        for secret in (*REAL, *PEOPLE):
            assert secret not in ended.text + ended.err
    assert "The crew" in Path("usage.html").read_text(encoding="utf-8")
    assert [*found(home, Path.cwd())] == []


def test_no_real_id_and_no_name_of_a_person_gets_out(home: Path) -> None:
    ended: list[Ended] = [command(one) for one in COMMANDS]
    for one, asked in zip(ended, COMMANDS, strict=True):
        assert one.code == (1 if asked[0] == "alerts" else 0), (asked, one.err)
        for secret in (*REAL, *PEOPLE):
            assert secret not in one.text + one.err, asked
    assert [*found(home, Path.cwd())] == []
    check, _, users, teams, *_ = (one.text for one in ended)
    assert "3 names of users are left out" in check
    assert "line 4: a user" in check, "nobody's real id, and the line all the same"
    assert str(PSEUDONYMS.of(REAL[0])) in users
    assert "crew" in teams
    assert "The crew" in ended[5].text


def test_a_report_is_of_a_real_id_or_its_pseudonym_and_shows_the_pseudonym_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.page._both", lambda *_: "")
    pseudonym = PSEUDONYMS.of(REAL[0])
    of_real, of_pseudonym, of_team = (
        command(["report", "-o", "-", *asked])
        for asked in (["--user", REAL[0]], ["--user", pseudonym], ["--team", "crew"])
    )
    assert of_real.code == of_pseudonym.code == of_team.code == 0
    assert of_real.text == of_pseudonym.text
    assert f"Of user {pseudonym}" in of_real.text
    assert f"--user {pseudonym}</code>" in of_real.text
    assert "1 user with 1 API key made 1 operation" in of_real.text
    assert "of 1 budget is" in of_real.text
    assert "1 more budget is of other usage" in of_real.text
    assert "Of team The crew" in of_team.text
    assert "2 users with 2 API keys made 2 operations" in of_team.text
    for secret in (*REAL, *PEOPLE):
        assert secret not in of_real.text + of_team.text + of_real.err + of_team.err
    monkeypatch.delenv("MKA1_USAGE_PSEUDONYM_KEY")
    monkeypatch.delenv("MKA1_USAGE_BUDGETS")
    without_key = command(["report", "-o", "-", "--user", REAL[0]])
    assert without_key.code == 1
    assert "now MKA1_USAGE_PSEUDONYM_KEY is not set" in without_key.err


def test_the_live_page_of_a_team_names_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.page._both", lambda *_: "")
    settings = load_settings()
    pages = Pages(settings, Lake(home / "lake"))
    text = asyncio.run(pages.page(Question(only=Only(team="crew"))))[0].content.decode()
    pages.close()
    assert "Of team The crew" in text
    assert "User (pseudonym)" in text
    assert '<option value="crew" selected>The crew</option>' in text
    assert str(PSEUDONYMS.of(REAL[1])) in text
    for secret in (*REAL, *PEOPLE):
        assert secret not in text


def test_teams_count_by_the_pseudonyms_of_real_ids(home: Path) -> None:
    asked = "select team_id, num_operations from team_usage_by('1mo')"
    rows = json.loads(command(["sql", asked, "--format", "json"]).text)
    assert rows == [{"team_id": "crew", "num_operations": 2}]
    assert Lake(home / "lake").all_days()


def test_without_the_key_nothing_is_said_of_users(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MKA1_USAGE_PSEUDONYM_KEY")
    ended = command(["sql", "from names", "--format", "csv"])
    assert [line.split(",")[0] for line in ended.text.splitlines()] == ["kind", "key", "team"]
    assert "warning: 3 lines of users are left out of the names" in ended.err
    for secret in (*REAL, *PEOPLE):
        assert secret not in ended.text + ended.err
    assert [*found(home)] == []
