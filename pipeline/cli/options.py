"""What options of several commands share: how a time, a choice and a table's width are read."""

from __future__ import annotations

import sys
from datetime import date
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from pipeline.timeline import day_of, iso, parse_time
from pipeline.zones import zone, zones

NO_TERMINAL: Final = 240
"""Columns of a table that goes to a file or a pipe."""

_TIME: Final = "ISO date, ISO time (UTC unless it says otherwise) or Unix seconds"


def stdout() -> Console:
    """A console on stdout, wide where nobody looks at it."""
    return Console() if sys.stdout.isatty() else Console(width=NO_TERMINAL)


def as_time(text: str, tz: str = "UTC") -> int:
    """Unix seconds; typer.BadParameter, in words for a user, where `text` is no time.

    A time without an offset is one of the time zone `tz`.
    """
    try:
        return parse_time(text, zone(tz))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def not_empty(start: int | None, end: int | None) -> None:
    """typer.BadParameter for a window (Unix seconds) that ends before it begins, or then."""
    if start is not None and end is not None and end <= start:
        raise typer.BadParameter(
            f"the window is empty: --start is {iso(start)}, --end is {iso(end)}"
        )


def days_of(start: int | None, end: int | None) -> tuple[date | None, date | None]:
    """The first and the last UTC day of a window; None where it is open."""
    return None if start is None else day_of(start), None if end is None else day_of(end - 1)


def one_of(*choices: str) -> Any:
    """An option that takes one of `choices`, for typer: help, complaints and completion say so."""

    def chosen(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(choices)}")
        return text

    def completed(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return {"parser": chosen, "metavar": "|".join(choices), "autocompletion": completed}


def as_zone(text: str) -> str:
    """The name of a time zone; typer.BadParameter where it is none."""
    try:
        zone(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def _zones(incomplete: str) -> list[str]:
    return sorted(name for name in zones() if name.startswith(incomplete))


Zone = Annotated[
    str,
    typer.Option(
        "--tz",
        parser=as_zone,
        metavar="ZONE",
        autocompletion=_zones,
        help="Time zone, such as Asia/Karachi.",
    ),
]
LOCAL_TIME: Final = "ISO date or time (of --tz unless it says otherwise) or Unix seconds"
LocalTime = Annotated[str | None, typer.Option(metavar="TIME", help=LOCAL_TIME)]
"""Read by `as_time` once the time zone is known."""
Partial = Annotated[
    bool, typer.Option("--partial", help="Count days that are not loaded as empty.")
]
OptionalTime = Annotated[int | None, typer.Option(parser=as_time, metavar="TIME", help=_TIME)]
