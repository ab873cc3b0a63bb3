"""Names and teams in the report: in its tables, charts and sentences."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.lake.store import Lake
from pipeline.names.file import Named, Names, read_names
from pipeline.pricing.budgets import read_budgets
from pipeline.pricing.prices import read_prices
from pipeline.report import page
from pipeline.report.figures import NO_PRICES, Figures, NothingToReportError, read
from pipeline.report.sections import page_content
from pipeline.report.source import EVERYTHING, Only
from tests.named import names as names_of
from tests.named import write_names
from tests.names.people import LINES, SPENT, team
from tests.pricing.spent import FIRST

UTC = ZoneInfo("UTC")


@pytest.fixture(scope="module")
def figures(home: Path) -> Figures:
    """The figures of all that is loaded."""
    names = read_names(home / "names.csv")
    prices = read_prices(home / "prices.csv")
    return read(Lake(home / "lake"), FIRST, None, UTC, prices, names=names)


def test_teams_have_the_operations_of_their_users_and_keys(figures: Figures) -> None:
    wanted = Counter[str | None]()
    for spent in SPENT:
        wanted[team(spent)] += spent.operations
    assert figures.teams is not None
    assert {one.id: one.counts.operations for one in figures.teams.top} == wanted
    assert [one.shown for one in figures.teams.top] == [
        *("Research (shop)", "Research (research)", None, "sales"),
    ]


def test_teams_have_the_cost_of_their_users_and_keys(figures: Figures) -> None:
    spending = figures.spending
    assert spending is not None
    tokens = Counter[str | None]()
    for spent in SPENT:
        tokens[team(spent)] += spent.total
    assert {one.id: one.tokens.total for one in spending.teams} == tokens
    costs = {one.id: one.bill.of("usd") for one in spending.teams if one.bill}
    total = spending.total.bill
    assert total is not None
    assert sum(cost or 0 for cost in costs.values()) == total.of("usd")


def test_no_name_stands_for_two_ids_of_the_report(figures: Figures) -> None:
    assert figures.spending is not None
    for ranked in (figures.users.top, figures.spending.users):
        shown = [one.shown for one in ranked]
        assert len(set(shown)) == len(shown)
        assert "Ada Lovelace (ada)" in shown
    assert {one.shown for one in figures.keys.top} == {"Web shop", "batch", None}


def test_a_name_that_is_the_id_of_another_is_told_apart(home: Path) -> None:
    figures = read(Lake(home / "lake"), FIRST, None, UTC, names=names_of({"ada": "bob"}))
    shown = {one.id: one.shown for one in figures.users.top}
    assert (shown["ada"], shown["bob"]) == ("bob (ada)", "bob (bob)")
    assert figures.teams is None


def test_sentences_and_tables_name_people_and_teams(figures: Figures) -> None:
    html = said(figures)
    for words in (
        *("Top teams", "Top teams by cost", "Research (shop) made ", "The teams that use most"),
        *("Ada Lovelace (bob)", "Web shop", "(no team)", "sales"),
    ):
        assert words in html


@pytest.mark.slow
def test_charts_name_people_and_teams(figures: Figures) -> None:
    svg = "".join(page.render(figures).split("<svg")[1:])
    for words in ("Research (shop)", "Ada Lovelace (bob)", "(no team)", "Web shop"):
        assert words in svg
    assert {"teams.png", "teams-by-cost.png"} <= page.pictures(figures).keys()


@pytest.mark.parametrize("id_", ["research", "shop", "sales"])
def test_a_report_of_a_team_has_the_numbers_of_its_line_in_the_report_of_all(
    home: Path, figures: Figures, id_: str
) -> None:
    names, prices = read_names(home / "names.csv"), read_prices(home / "prices.csv")
    only = Only(team=id_)
    found = read(Lake(home / "lake"), FIRST, None, UTC, prices, names=names, only=only)
    assert figures.teams is not None
    assert figures.spending is not None
    assert found.spending is not None
    [line] = [one for one in figures.teams.top if one.id == id_]
    [spent] = [one for one in figures.spending.teams if one.id == id_]
    assert found.totals.counts == line.counts
    assert sum(bar.counts.operations or 0 for bar in found.bars if bar.counts) == (
        line.counts.operations
    )
    assert found.spending.total.tokens == spent.tokens
    assert found.spending.total.bill == spent.bill
    of_team = [one for one in SPENT if team(one) == id_]
    assert {one.id for one in found.users.top} == {one.user for one in of_team}
    assert {one.id for one in found.keys.top} == {one.key for one in of_team}


ODD_TEAMS = ["Research", "research", "R\u00e9", "Re\u0301", 'it\'s "R&D" <b>;--\\ % 研究']


def test_a_team_is_found_by_its_id_to_the_letter(home: Path) -> None:
    lake = Lake(home / "lake")
    users = ["ada", "bob", "carl", "eve"]
    for number, id_ in enumerate(ODD_TEAMS):
        other = ODD_TEAMS[number - 1]
        rows = [
            *(
                Named(2, "user", user, "", id_ if place % 2 else other)
                for place, user in enumerate(users)
            ),
            Named(3, "key", "web", "", id_),
        ]
        found = read(lake, FIRST, None, UTC, names=Names(rows), only=Only(team=id_))
        wanted = sum(
            one.operations
            for one in SPENT
            if one.user in {"bob", "eve"} or (one.user is None and one.key == "web")
        )
        assert found.totals.counts.operations == wanted, id_
        assert found.teams is not None
        assert [one.id for one in found.teams.top] == [id_]


@pytest.mark.parametrize(
    ("names", "asked", "said"),
    [
        (["user,ada,Ada,crew", "team,crew,The crew,"], "Crew", "did you mean the team 'crew'?"),
        (["user,ada,Ada,crew", "team,crew,The crew,"], "the crew", "did you mean the team 'crew'?"),
        (["user,ada,Ada,crew", "team,idle,Idle,"], "idle", "names.csv (MKA1_USAGE_NAMES) says who"),
        (["user,ada,Ada,"], "crew", "nobody is in the team 'crew': names.csv"),
        ([], "x" * 1_000, f"nobody is in the team '{'x' * 59}…': names.csv"),
    ],
)
def test_a_team_that_nobody_is_in_is_refused_with_what_to_do(
    home: Path, tmp_path: Path, names: list[str], asked: str, said: str
) -> None:
    found = read_names(write_names(tmp_path, *names))
    with pytest.raises(NothingToReportError) as refused:
        read(Lake(home / "lake"), FIRST, None, UTC, names=found, only=Only(team=asked))
    assert said in str(refused.value)


def test_what_a_report_is_of_is_called_by_its_name(home: Path) -> None:
    names = read_names(home / "names.csv")
    for only, of in (
        (Only(user="ada"), "Of user Ada Lovelace (ada)"),
        (Only(key="web", team="shop"), "Of API key Web shop, team Research (shop)"),
        (Only(team="sales"), "Of team sales"),
    ):
        found = page_content(read(Lake(home / "lake"), FIRST, None, UTC, names=names, only=only))
        assert found.of == of
        sections = {one.name for one in found.sections}
        for kind in ("user", "key", "team"):
            assert (f"{kind}s" in sections) == (getattr(only, kind) is None)
        assert "of all" not in " ".join(one.finding for one in found.sections)


@pytest.mark.parametrize(
    ("only", "shown", "said"),
    [
        (Only(team="shop"), ["shop"], "4 more budgets are of other usage: the report of all has"),
        (Only(user="ada"), ["ada"], "4 more budgets are of other usage"),
        (Only(team="sales"), [], "5 budgets are of other usage: the report of all has them."),
        (Only(user="ada", team="research"), [], "5 budgets are of other usage"),
        (Only(key="web", model="small"), [], "5 budgets are of other usage"),
        (EVERYTHING, ["", "ada", "ada", "web", "shop"], "5 budgets is used up"),
    ],
)
def test_a_budget_is_shown_where_the_report_is_of_all_that_it_is_of(
    home: Path, tmp_path: Path, only: Only, shown: list[str], said: str
) -> None:
    path = tmp_path / "budgets.csv"
    path.write_text(
        "scope,id,period,measure,amount\nall,,month,operations,1000\nuser,ada,day,operations,1000\n"
        "team,ada,day,operations,1000\nkey,web,day,operations,1000\nteam,shop,day,operations,1000\n"
    )
    names = read_names(write_names(tmp_path, *LINES, "user,zoe,,ada"))
    budgets = read_budgets(path, NO_PRICES)
    found = read(Lake(home / "lake"), FIRST, None, UTC, NO_PRICES, budgets, names=names, only=only)
    assert [one.budget.id for one in found.budgets] == shown
    [section] = [one for one in page_content(found).sections if one.name == "budgets"]
    assert said in section.finding
    assert (section.chart is None) == (not shown)


def test_without_names_a_report_has_no_teams(home: Path) -> None:
    html = said(read(Lake(home / "lake"), FIRST, None, UTC))
    assert "team" not in html
    assert "Ada Lovelace" not in html


def said(figures: Figures) -> str:
    """The headings, sentences and tables of a report."""
    sections = page_content(figures).sections
    tables = [table for one in sections for table in one.tables]
    return repr([(one.heading, one.finding) for one in sections]) + repr(tables)
