"""buckets, sql: the commands that answer from what is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from pipeline.cli.completion import USERS
from pipeline.cli.damage import left_out, reading
from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail
from pipeline.cli.naming import named
from pipeline.cli.options import (
    NO_TERMINAL,
    LocalTime,
    Partial,
    Zone,
    as_time,
    not_empty,
    one_of,
    with_periods,
)
from pipeline.cli.pricing import price_list
from pipeline.cli.sharing import say_age
from pipeline.cli.spark import EngineOption, Format, Remote, ask_spark
from pipeline.settings import load_settings
from pipeline.terminal import printable, say, short
from pipeline.timeline import ANY_WIDTHS, AnyWidth, in_words, iso

_SHORT: Final = 1 << 20
"""Bytes of a page that a person may read: counted whole before anything is printed, and indented
on a terminal. A longer one is printed while it is counted."""


@with_periods
def buckets(
    start: LocalTime = None,
    end: LocalTime = None,
    width: Annotated[
        AnyWidth, typer.Option(help="Width of a bucket.", **one_of(*ANY_WIDTHS))
    ] = "1d",
    tz: Zone = "UTC",
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            help="Group by it; may be given twice.", **one_of("user_id", "api_key_id", "team_id")
        ),
    ] = None,
    user_id: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Count this user only; may be repeated.", **USERS),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", help="Most buckets on a page, 1 to 1440.")
    ] = 1440,
    page: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="next_page of the page before.")
    ] = None,
    partial: Partial = False,
    names: Annotated[
        bool, typer.Option("--names", help="Add the names of MKA1_USAGE_NAMES to the ids.")
    ] = False,
) -> None:
    """Print one page of usage buckets as JSON, exactly as the API's usage endpoint shapes it.

    Without --end: through the last minute that is loaded. Widths and time zones that the API does
    not have are counted from what it has: days, weeks (from Monday) and months begin at midnight
    of --tz, exactly, also where its clock is moved.
    """
    if start is None:
        raise typer.BadParameter("say which time: --start, or a period such as --last-month")
    first = as_time(start, tz)
    last = None if end is None else as_time(end, tz)
    not_empty(first, last)
    import msgspec

    from pipeline.lake.store import Lake
    from pipeline.lake.user_id_mode import UserIdModeError
    from pipeline.query.buckets import NotLoadedError, PageQuery, answer, stored_users

    with exit_codes():
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
        say_age(settings, lake)
        try:
            query = PageQuery(
                start_time=first,
                end_time=last,
                bucket_width=width,
                limit=limit,
                page=page,
                user_ids=stored_users(lake, user_id or [], settings.pseudonyms),
                group_by=group_by or [],
                tz=tz,
                names=names,
            )
            called = named(settings, lake).table if query.needs_names else None
            with reading(lake):
                answered = answer(lake, query, partial=partial, names=called)
                begun = list(_first(_SHORT, answered.text))
        except (NotLoadedError, UserIdModeError) as error:
            fail(str(error), FAILED)
        except ValueError as error:
            fail(str(error), MISUSED)
        if answered.complete_through is not None:
            why = (
                f": the totals of {in_words(answered.disputed)} differ from the API's own"
                if answered.disputed
                else ""
            )
            say(f"note: complete through {iso(answered.complete_through)} only{why}")
        if sys.stdout.isatty() and sum(map(len, begun)) < _SHORT:
            begun = [msgspec.json.format(b"".join(begun), indent=2)]
        with reading(lake):
            for piece in chain(begun, answered.text, [b"\n"]):
                # JSON is UTF-8, whatever the locale is.
                sys.stdout.buffer.write(printable(piece.decode()).encode())


def _first(size: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Those pieces that come before there are so many bytes, and the one with which there are."""
    for piece in pieces:
        yield piece
        size -= len(piece)
        if size <= 0:
            return


def sql(
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="For example: from usage_1d limit 5"),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format", help="How to print it.", **one_of("table", "csv", "json", "parquet")
        ),
    ] = "table",
    allow: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="A folder that may be read too, for files of your own; may be repeated.",
        ),
    ] = None,
    engine: EngineOption = "duckdb",
    remote: Remote = None,
) -> None:
    """Query the published tables, read-only: usage_1m, usage_1h, usage_1d and the others.

    Without QUERY it is read from stdin; on a terminal, a shell opens, with history and completion.
    It reads the lake and, with --allow, any file in DIR. So no folder that holds a `.env`.

    With --engine spark the tables are those of the shared lake, and a Spark Connect server answers.
    """
    if form == "parquet" and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is no text for a terminal: add `> result.parquet`")
    if engine == "spark":
        if query is None and sys.stdin.isatty():
            raise typer.BadParameter("the shell is DuckDB's: give a QUERY with --engine spark")
        if allow:
            raise typer.BadParameter("--allow is for --engine duckdb: Spark reads the tables alone")
        ask_spark(query if query is not None else _stdin(), form, remote)
        return
    if remote is not None:
        raise typer.BadParameter("--remote is for --engine spark")
    from pipeline.lake.store import Lake
    from pipeline.query import ad_hoc

    with exit_codes():
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
        say_age(settings, lake)
        if not settings.catalog.exists():
            fail(
                f"there is no {short(settings.catalog)} yet: load days with `mka1-usage run`, or "
                "set MKA1_USAGE_HOME to the folder that has it",
                FAILED,
            )
        if query is None and sys.stdin.isatty():
            say("show tables; from usage_1d; from top_users(5); Tab completes, .quit leaves")
        elif query is None:
            query = _stdin()
        prices, names = price_list(settings).table, named(settings, lake).table
        try:
            with ad_hoc.as_published(
                settings.catalog, lake, _changed, left_out, prices, names
            ) as catalog:
                if query is None:
                    with ad_hoc.without_damage(catalog, lake, left_out) as sound:
                        ad_hoc.shell(sound, lake)
                    return
                asked, width = query, Console().width if sys.stdout.isatty() else NO_TERMINAL

                def ask(catalog: Path) -> None:
                    if form == "table":
                        ad_hoc.show(catalog, lake, asked, width, allow or ())
                    else:
                        ad_hoc.export(catalog, lake, asked, form, sys.stdout.buffer, allow or ())

                ad_hoc.over_the_rest(catalog, lake, ask, left_out)
        except ad_hoc.QueryError as error:
            fail(str(error), MISUSED)
        except ad_hoc.CatalogError as error:
            fail(str(error), FAILED)


def _stdin() -> str:
    return sys.stdin.buffer.read().decode(errors="surrogateescape")


def _changed(how: str) -> None:
    say(
        f"note: usage.duckdb is not as it was published: {how}. This answers from the lake itself; "
        "any run keeps what was put into the catalog in a folder of its own, and builds it anew"
    )
