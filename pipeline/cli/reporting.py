"""report: the command that makes a page of what is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.completion import MODELS, TEAMS, USED_KEYS, USERS
from pipeline.cli.damage import left_out, reading
from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail
from pipeline.cli.naming import named
from pipeline.cli.options import LocalTime, Zone, as_id, as_time, with_periods
from pipeline.cli.pricing import budget_list, price_list
from pipeline.cli.sharing import say_age
from pipeline.messages import count
from pipeline.settings import load_settings
from pipeline.terminal import say, short
from pipeline.zones import zone

if TYPE_CHECKING:  # the command imports what it needs
    from pipeline.report.figures import Figures
    from pipeline.shared_lake import Copy


@with_periods
def report(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page; - is stdout.")
    ] = Path("usage.html"),
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the charts as PNG too.")
    ] = None,
    start: LocalTime = None,
    end: LocalTime = None,
    tz: Zone = "UTC",
    user: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            parser=as_id,
            help="Of this user alone; with pseudonyms, the real id or the pseudonym.",
            **USERS,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="ID", parser=as_id, help="Of this API key alone.", **USED_KEYS),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", parser=as_id, help="Of this model alone.", **MODELS)
    ] = None,
    team: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            parser=as_id,
            help="Of this team or cost centre of MKA1_USAGE_NAMES alone.",
            **TEAMS,
        ),
    ] = None,
) -> None:
    """Write a report to look at and to send around: one HTML file that needs no network.

    By default of the last 28 complete days that are loaded, held against the 28 before. A day that
    --start or --end lies in is in it whole; days and hours are those of --tz. Tokens are shown
    where conversations are synced, and costs where there is a price list. With several of --user,
    --key, --model and --team, it is of what is of all of them.
    """
    first = None if start is None else as_time(start, tz)
    last = None if end is None else as_time(end, tz) - 1
    if first is not None and last is not None and last < first:
        raise typer.BadParameter(f"the window is empty: --start is {start}, --end is {end}")
    from pipeline.lake.snapshot import left_out as words
    from pipeline.lake.store import Lake
    from pipeline.lake.user_id_mode import UserIdModeError
    from pipeline.pricing.hand_written import HandWrittenError
    from pipeline.query.buckets import stored_user
    from pipeline.report import figures
    from pipeline.report.drawing_process import DrawingError
    from pipeline.report.period import local_day
    from pipeline.report.source import Only

    with exit_codes():
        settings = load_settings()
        known = zone(tz)
        prices = price_list(settings)
        budgets = budget_list(settings, prices)
        lake = Lake(settings.lake, memory=settings.memory)
        copy = say_age(settings, lake)
        names = named(settings, lake)
        try:
            stored = None if user is None else stored_user(lake, user, settings.pseudonyms)
            with reading(lake):
                found = figures.read(
                    lake,
                    None if first is None else local_day(first, known),
                    None if last is None else local_day(max(last, 0), known),
                    known,
                    prices,
                    budgets,
                    settings.pseudonyms,
                    names,
                    only=Only(stored, key, model, team),
                )
        except (figures.PeriodError, HandWrittenError) as error:
            fail(str(error), MISUSED)
        except (figures.NothingToReportError, UserIdModeError) as error:
            fail(str(error), FAILED)
        for one in found.damage:
            left_out(words(one))
        try:
            _write(found, output, png, tz, copy)
        except DrawingError as error:
            fail(str(error), FAILED)


def _write(found: Figures, output: Path, png: Path | None, tz: str, copy: Copy | None) -> None:
    """Write the page, and the charts where `png` is given; say where they are."""
    from pipeline.report import page, writing
    from pipeline.report.sections import of_what

    files: dict[Path, bytes] = {}
    html = page.render(found, copy.at if copy else None).encode()
    if str(output) == "-":
        sys.stdout.buffer.write(html)
    else:
        files[output] = html
    if png is not None:
        png.mkdir(parents=True, exist_ok=True)
        files |= {png / name: drawn for name, drawn in page.pictures(found).items()}
    writing.write(files)
    days = found.period
    where = [] if str(output) == "-" else [short(output.absolute())]
    if png is not None:
        where.append(f"{count(len(files) - len(where), 'picture')} in {short(png.absolute())}")
    if where:
        of = f", {words}" if (words := of_what(found)) else ""
        say(f"{days.first} to {days.last} ({tz}){of}: {' and '.join(where)}")
