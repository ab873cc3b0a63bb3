"""A home folder with names in its catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lake.catalog import build_catalog
from pipeline.names.file import read_names
from pipeline.pricing.prices import read_prices
from tests.named import write_names
from tests.names.people import LINES, SPENT
from tests.pricing.spent import spend


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with names and prices in its catalog. Tests only read it."""
    folder = tmp_path_factory.mktemp("named")
    lake = spend(folder, SPENT, prices="large,2024-01-01,usd,1,,1,\nsmall,2024-01-01,eur,2,,2,")
    names = read_names(write_names(folder, *LINES)).table
    prices = read_prices(folder / "prices.csv").table
    build_catalog(lake, folder / "usage.duckdb", prices=prices, names=names)
    return folder
