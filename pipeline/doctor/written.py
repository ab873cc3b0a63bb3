"""Prices, budgets and names that people write: can they be read, and does the catalog have them?"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.doctor.finding import CheckContext, Finding, failed, ok, skipped, warning
from pipeline.lake.catalog import NAMES, PRICES, names_of, prices_of
from pipeline.lake.store import Lake
from pipeline.messages import count
from pipeline.names.file import load_names
from pipeline.pricing.budgets import load_budgets
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import load_prices


def files(context: CheckContext) -> Iterator[Finding]:
    """What is wrong in `prices.csv` and `budgets.csv`; prices that the catalog has not got yet."""
    settings = context.settings
    try:
        prices = load_prices(settings)
        budgets = load_budgets(settings, prices)
    except HandWrittenError as error:
        yield failed(str(error), "correct it; docs/pricing.md has the rules")
        return
    if not prices.rows and not budgets:
        yield skipped("there are no prices and no budgets")
        return
    held = prices_of(settings.catalog) or PRICES.empty_table()
    if settings.catalog.exists() and not held.equals(prices.table):
        yield warning(
            f"{settings.catalog} has other prices than {settings.prices}",
            "`mka1-usage run` builds it anew; `mka1-usage sql` goes by the file already",
        )
    yield ok(f"{count(len(prices.rows), 'price')}, {count(len(budgets), 'budget')}")


def names(context: CheckContext) -> Iterator[Finding]:
    """What is wrong in `names.csv`; names that the catalog has not got yet. Nothing where there is
    no such file."""
    settings = context.settings
    try:
        found = load_names(settings, Lake(settings.lake))
    except HandWrittenError as error:
        yield failed(str(error), "correct it; docs/names.md has the rules")
        return
    if not found.rows:
        return
    held = names_of(settings.catalog) or NAMES.empty_table()
    if settings.catalog.exists() and not held.equals(found.table):
        yield warning(
            f"{settings.catalog} has other names than {settings.names}",
            "`mka1-usage run` builds it anew; `mka1-usage sql` goes by the file already",
        )
    yield ok(f"{count(len(found.rows), 'line')}; `mka1-usage names check` holds them against usage")
