"""Names and teams in the report: in its tables, charts and sentences."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.lake.store import Lake
from pipeline.names.file import read_names
from pipeline.pricing.prices import read_prices
from pipeline.report import page
from pipeline.report.figures import Figures, read
from pipeline.report.sections import page_content
from tests.named import names as names_of
from tests.names.people import SPENT, team
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


def test_without_names_a_report_has_no_teams(home: Path) -> None:
    html = said(read(Lake(home / "lake"), FIRST, None, UTC))
    assert "team" not in html
    assert "Ada Lovelace" not in html


def said(figures: Figures) -> str:
    """The headings, sentences and tables of a report."""
    sections = page_content(figures).sections
    tables = [table for one in sections for table in one.tables]
    return repr([(one.heading, one.finding) for one in sections]) + repr(tables)
