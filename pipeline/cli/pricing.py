"""prices check, budgets: the commands about money."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.damage import left_out, nothing_loaded, reading
from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail
from pipeline.cli.naming import named
from pipeline.cli.options import as_time, one_of, stdout
from pipeline.settings import Settings, load_settings
from pipeline.terminal import printable, say, short

if TYPE_CHECKING:  # a command that needs no prices waits for none
    from pipeline.pricing.budgets import Budget
    from pipeline.pricing.prices import PriceList

prices: typer.Typer = typer.Typer(no_args_is_help=True, help="What a token costs.")


def price_list(settings: Settings) -> PriceList:
    """The price list as it is now; ends with its one line where it is wrong."""
    from pipeline.pricing.hand_written import HandWrittenError
    from pipeline.pricing.prices import load_prices

    try:
        return load_prices(settings)
    except HandWrittenError as error:
        fail(str(error), MISUSED)


def budget_list(settings: Settings, costs: PriceList) -> list[Budget]:
    """The budgets as they are now; ends with their one line where they are wrong."""
    from pipeline.pricing.budgets import load_budgets
    from pipeline.pricing.hand_written import HandWrittenError

    try:
        return load_budgets(settings, costs)
    except HandWrittenError as error:
        fail(str(error), MISUSED)


def budgets(
    at: Annotated[
        int | None,
        typer.Option(
            parser=as_time,
            metavar="TIME",
            help="Look as if it were then: ISO date, ISO time (UTC) or Unix seconds.",
        ),
    ] = None,
    form: Annotated[
        Literal["table", "json"],
        typer.Option("--format", help="How to print it.", **one_of("table", "json")),
    ] = "table",
) -> None:
    """Print how much of each budget is used, what is left, and where its period is heading.

    That is what the whole period comes to if it goes on like the part that is loaded; - where less
    than an hour is.
    """
    from pipeline.lake.snapshot import Snapshot
    from pipeline.lake.store import Lake
    from pipeline.lake.user_id_mode import UserIdModeError
    from pipeline.pricing.budget_states import NAMES, budget_states
    from pipeline.pricing.budget_table import as_json, print_budgets
    from pipeline.pricing.hand_written import HandWrittenError

    with exit_codes():
        settings = load_settings()
        costs = price_list(settings)
        asked = budget_list(settings, costs)
        if not asked:
            fail(f"there are no budgets: write them into {short(settings.budgets)}", FAILED)
        lake = Lake(settings.lake, memory=settings.memory)
        names = named(settings, lake).table
        try:
            with reading(lake):
                snapshot = Snapshot(lake, names=NAMES)
                for warning in snapshot.warnings:
                    left_out(warning)
                if snapshot.extent is None:
                    nothing_loaded(settings.lake)
                now = time.time() if at is None else float(at)
                states = budget_states(
                    *(snapshot, lake, asked, costs, now, settings.pseudonyms), names=names
                )
        except UserIdModeError as error:
            fail(str(error), FAILED)
        except HandWrittenError as error:
            fail(str(error), MISUSED)
        if form == "table":
            print_budgets(states, stdout())
        else:
            sys.stdout.buffer.write(f"{printable(as_json(states))}\n".encode())  # as `buckets` does


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
        lake = Lake(settings.lake, memory=settings.memory)
        snapshot = Snapshot(lake, names=("tokens_1d", "meters_1d"))
        with reading(lake):
            for warning in snapshot.warnings:
                left_out(warning)
            checked = check_prices(snapshot, found)
        print_check(checked, found, stdout())
        if checked.unpriced:
            raise typer.Exit(FAILED)
