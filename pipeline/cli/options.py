"""What options of several commands share: how a time, a choice and a table's width are read."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from datetime import date, datetime
from functools import wraps
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from pipeline.periods import PERIOD_NAMES, PERIOD_WORDS, PeriodName, days_of_period
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


def as_id(text: str) -> str:
    """An id as it is; typer.BadParameter for none, and for what no id is: not UTF-8."""
    if not text.strip():
        raise typer.BadParameter("it is empty: give an id, or leave the option out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{text!r} is not UTF-8") from None
    return text


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


def today(tz: str) -> date:
    """The day that it is now in a time zone."""
    return datetime.now(zone(tz)).date()


def with_periods(command: Callable[..., None]) -> Callable[..., None]:
    """A command with `start` and `end` that takes periods by name too: --last-month, --today, …

    They are of the zone of its `tz`, where it has one, else of UTC. Two of them, or one beside
    --start or --end, are refused.
    """
    signature = inspect.signature(command, eval_str=True)
    is_local = "tz" in signature.parameters  # then it reads times itself, once the zone is known

    @wraps(command)
    def taking_periods(**given: Any) -> None:
        asked: list[PeriodName] = [name for name in PERIOD_NAMES if given.pop(_variable(name))]
        if asked:
            name = asked[0]
            if len(asked) > 1:
                raise typer.BadParameter(f"--{name} and --{asked[1]} are two periods: give one")
            if given["start"] is not None or given["end"] is not None:
                raise typer.BadParameter(f"--{name} says it all: leave out --start and --end")
            tz = given["tz"] if is_local else "UTC"
            for end, day in zip(("start", "end"), days_of_period(name, today(tz)), strict=True):
                text = None if day is None else f"{day}"
                given[end] = text if is_local or text is None else as_time(text)
        command(**given)

    hints: dict[str, Any] = {}
    for name in PERIOD_NAMES:
        option = typer.Option(f"--{name}", help=PERIOD_WORDS[name], show_default=False)
        hints[_variable(name)] = Annotated[bool, option]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in hints.items()
    ]
    parameters = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()
    ]
    place = next(place for place, one in enumerate(parameters, 1) if one.name == "end")
    parameters[place:place] = options
    taking_periods.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    taking_periods.__annotations__ = {**command.__annotations__, **hints}
    return taking_periods


def _variable(period: PeriodName) -> str:
    return period.replace("-", "_")
