"""export: the command that writes files for BI tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.cli.completion import EXPORTED
from pipeline.cli.exit_codes import FAILED, INTERRUPTED, MISUSED, exit_codes, fail
from pipeline.cli.naming import named
from pipeline.cli.options import (
    OptionalTime,
    days_of,
    not_empty,
    one_of,
    stdout,
    with_periods,
)
from pipeline.cli.pricing import price_list
from pipeline.cli.sharing import say_age
from pipeline.messages import count
from pipeline.settings import load_settings
from pipeline.terminal import say, short

if TYPE_CHECKING:  # the command imports what it needs
    from pipeline.export.export import Exported
    from pipeline.export.files import Dialect

_Format = Literal["parquet", "csv", "duckdb", "xlsx"]
_FORMER: Final = (
    "note: MKA1_USAGE_EXPORT_NAMES names people in exports alone: set MKA1_USAGE_NAMES instead, "
    "which names them everywhere"
)
_Readers = Literal["owner", "group", "all"]
_SEPARATORS: Final = {"comma": ",", "semicolon": ";", "tab": "\t"}


def _as_separator(text: str) -> str:
    if text not in {*_SEPARATORS, *_SEPARATORS.values()}:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(_SEPARATORS)}")
    return _SEPARATORS.get(text, text)


def _separators_like(incomplete: str) -> list[str]:
    return [name for name in _SEPARATORS if name.startswith(incomplete)]


def _dialect(form: _Format, separator: str | None, decimal_comma: bool) -> Dialect:
    """What a CSV is to look like; typer.BadParameter where it can't, or there is none."""
    if form != "csv" and (separator or decimal_comma):
        given = "--separator" if separator else "--decimal-comma"
        raise typer.BadParameter(f"{given} is for --format csv, and this is {form}")
    if separator == "," and decimal_comma:
        raise typer.BadParameter("--decimal-comma takes --separator semicolon or tab, not comma")
    from pipeline.export.files import Dialect

    between = separator or (";" if decimal_comma else ",")
    return Dialect(_SEPARATORS.get(between, between), decimal_comma)


@with_periods
def export(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="An empty folder, or that of an export before: MKA1_USAGE_EXPORT_DIR by default.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="This table alone, such as usage_1d; may be repeated.", **EXPORTED
        ),
    ] = None,
    partition_by: Annotated[
        Literal["day"] | None,
        typer.Option(help="A Parquet file per UTC day instead of one.", **one_of("day")),
    ] = None,
    form: Annotated[
        _Format,
        typer.Option(
            "--format", help="Kind of file.", **one_of("parquet", "csv", "duckdb", "xlsx")
        ),
    ] = "parquet",
    separator: Annotated[
        str | None,
        typer.Option(
            metavar="comma|semicolon|tab",
            parser=_as_separator,
            autocompletion=_separators_like,
            help="What is between the columns of a CSV. [default: comma; semicolon with "
            "--decimal-comma]",
        ),
    ] = None,
    decimal_comma: Annotated[
        bool,
        typer.Option("--decimal-comma", help="Decimals of a CSV as 0,5: for European Excel."),
    ] = False,
    start: OptionalTime = None,
    end: OptionalTime = None,
    names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="CSV of names (kind, id, name, team) for dim_user, dim_api_key and dim_team. "
            "MKA1_USAGE_NAMES by default.",
        ),
    ] = None,
    readable_by: Annotated[
        _Readers | None,
        typer.Option(
            help="Who may read the files. MKA1_USAGE_EXPORT_READABLE_BY by default: owner.",
            **one_of("owner", "group", "all"),
        ),
    ] = None,
) -> None:
    """Write the tables as files for BI tools and spreadsheets, described in DATA_DICTIONARY.md.

    By default a star schema (fact_usage, dim_user, dim_api_key, dim_date; fact_tokens, fact_costs
    and dim_model where there are responses or bills) and usage_1m, usage_1h and usage_1d, of all
    days that are loaded; of the UTC days of [start, end) where these are given, whole days. Run it
    again and only what has changed is written.
    """
    not_empty(start, end)
    dialect = _dialect(form, separator, decimal_comma)
    from pipeline.export.export import ExportError, export
    from pipeline.export.files import MOST_ROWS
    from pipeline.export.folder import FolderError
    from pipeline.export.tables import FACT_TOKENS, UnknownTableError
    from pipeline.lake.store import Lake

    with exit_codes():
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
        say_age(settings, lake)
        found = named(settings, lake, names or settings.export_names)
        if names is None and settings.export_names is not None:
            say(_FORMER)
        first, last = days_of(start, end)
        needs_prices = not table or FACT_TOKENS.name in table
        console = Console(stderr=True)
        try:
            with console.status("exporting") as status:
                exported = export(
                    lake,
                    folder or settings.export_dir,
                    table or (),
                    form=form,
                    dialect=dialect,
                    by_day=partition_by == "day",
                    first=first,
                    last=last,
                    names=found,
                    readers=readable_by or settings.export_readable_by,
                    prices=price_list(settings).table if needs_prices else None,
                    on_table=lambda name: status.update(f"exporting {name}"),
                )
        except ExportError as error:
            fail(str(error), FAILED)
        except (UnknownTableError, FolderError) as error:
            fail(str(error), MISUSED)
        except KeyboardInterrupt:
            say("interrupted: run the same again")
            raise typer.Exit(INTERRUPTED) from None
        _report(exported, MOST_ROWS if form == "csv" else None)


def _report(exported: Exported, most_rows: int | None) -> None:
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("table")
    shown.add_column("rows", justify="right")
    for name, rows in exported.rows.items():
        shown.add_row(name, f"{rows:,}")
    stdout().print(shown)
    for note in exported.notes:
        say(f"note: {note}")
    for name, rows in exported.rows.items():
        if most_rows is not None and rows > most_rows:
            say(
                f"note: {name} has {count(rows, 'row')}, and a sheet of a spreadsheet ends at "
                f"{most_rows:,}: export fewer days (--start, --end) or wider buckets"
            )
    for what, days in exported.lacking.words.items():
        say(f"note: {what}: {days}")
    replaced = exported.replaced
    say(
        f"{exported.days[0]} to {exported.days[-1]} is in {short(exported.folder)}: "
        f"{count(len(exported.sizes), 'file')}, {sum(exported.sizes.values()) / 1e6:,.1f} MB; "
        f"{replaced.written:,} written, {replaced.unchanged:,} unchanged, "
        f"{replaced.removed:,} removed"
    )
