"""prices check, budgets: the commands about money."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipeline.cli.damage import left_out, reading
from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail
from pipeline.cli.options import stdout
from pipeline.settings import Settings, load_settings
from pipeline.terminal import say, short

if TYPE_CHECKING:  # a command that needs no prices waits for none
    from pipeline.pricing.prices import PriceList

prices: typer.Typer = typer.Typer(no_args_is_help=True, help="What a token costs.")


def price_list(settings: Settings) -> PriceList:
    """The price list as it is now; ends with its one line where it is wrong."""
    from pipeline.pricing.hand_written import HandWrittenError
    from pipeline.pricing.prices import read_prices

    try:
        return read_prices(settings.prices, needed=settings.set_prices is not None)
    except HandWrittenError as error:
        fail(str(error), MISUSED)


@prices.command()
def check() -> None:
    """Read the price list, and hold it against the models in use.

    Names models without a price, rows that nothing uses, and rows that match the same model. Exit
    code 1 if a model in use has no price, 2 if the price list is wrong.
    """
    from pipeline.lake.snapshot import Snapshot
    from pipeline.lake.store import Lake
    from pipeline.pricing.price_check import check_prices, print_check

    with exit_codes():
        settings = load_settings()
        found = price_list(settings)
        if not found.rows:
            say(f"note: there is no {short(settings.prices)}, so nothing has a price")
        lake = Lake(settings.lake)
        snapshot = Snapshot(lake, names=("tokens_1d", "meters_1d"))
        with reading(lake):
            for warning in snapshot.warnings:
                left_out(warning)
            checked = check_prices(snapshot, found)
        print_check(checked, found, stdout())
        if checked.unpriced:
            raise typer.Exit(FAILED)
