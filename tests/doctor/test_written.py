"""What is wrong with prices, budgets and names is found, and what the catalog has not got."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.names.file import read_names
from pipeline.pricing.prices import read_prices
from tests.doctor.conftest import Look, told
from tests.named import write_names
from tests.pricing.spent import write_prices


@pytest.mark.usefixtures("catalog")
def test_prices_and_budgets_are_read_and_held_against_the_catalog(look: Look, home: Path) -> None:
    assert told(look("prices")) == "skipped prices: there are no prices and no budgets -> "
    path = write_prices(home, "*,2024-01-01,usd,1,,1,")
    (home / "budgets.csv").write_text("scope,period,measure,amount\nall,day,cost,5")
    stale, fine = look("prices")
    assert (stale.state, fine.state) == ("warning", "ok")
    assert "has other prices than" in stale.found
    assert "`mka1-usage run` builds it anew" in stale.fix
    assert fine.found == "1 price, 1 budget"
    build_catalog(Lake(home / "lake"), home / "usage.duckdb", prices=read_prices(path).table)
    assert [one.state for one in look("prices")] == ["ok"]
    (home / "budgets.csv").write_text("scope,period,measure,amount\nall,day,cost,-5")
    (wrong,) = look("prices")
    assert wrong.state == "failed"
    assert wrong.found.startswith(f"{home / 'budgets.csv'}, line 2, column amount: ")
    assert "docs/pricing.md" in wrong.fix


@pytest.mark.usefixtures("catalog")
def test_names_are_read_and_held_against_the_catalog(look: Look, home: Path) -> None:
    assert [*look("names")] == []
    path = write_names(home, "user,ada,Ada,")
    stale, fine = look("names")
    assert (stale.state, fine.state) == ("warning", "ok")
    assert "has other names than" in stale.found
    assert fine.found.startswith("1 line; ")
    build_catalog(Lake(home / "lake"), home / "usage.duckdb", names=read_names(path).table)
    assert [one.state for one in look("names")] == ["ok"]
    write_names(home, "user,,Ada,")
    (wrong,) = look("names")
    assert wrong.state == "failed"
    assert wrong.found.startswith(f"{home / 'names.csv'}, line 2, column id: ")
    assert "docs/names.md" in wrong.fix
