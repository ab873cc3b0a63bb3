"""`mka1-usage`: arguments in, exit codes out.

Belongs here: reading arguments and settings, and turning errors into one line and an exit code: 0
done, 1 the run failed, 2 bad arguments or settings. Data goes to stdout, everything else to stderr.
Does not belong here: work. Heavy modules are imported by the commands that need them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

import typer
from rich.console import Console

from pipeline.settings import Settings, SettingsError, load_settings
from pipeline.timeline import closed_through, day_of, iso, parse_time, trailing_days

app: Final = typer.Typer(
    name="mka1-usage",
    help="Usage analytics for MKA1: who used what, per minute, hour and day.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

FAILED: Final = 1
MISUSED: Final = 2

_TIME: Final = "ISO date, ISO time (UTC unless it says otherwise) or Unix seconds"


class _Width(StrEnum):
    MINUTE = "1m"
    HOUR = "1h"
    DAY = "1d"


class _GroupBy(StrEnum):
    USER = "user_id"
    KEY = "api_key_id"


class _Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


_FORMATS: Final[dict[_Format, Literal["csv", "json", "parquet"]]] = {
    _Format.CSV: "csv",
    _Format.JSON: "json",
    _Format.PARQUET: "parquet",
}


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


_Start = Annotated[int, typer.Option("--start", parser=_time, metavar="TIME", help=_TIME)]
_OptionalTime = Annotated[int | None, typer.Option(parser=_time, metavar="TIME", help=_TIME)]


def main() -> None:
    """The console script."""
    app()


@app.command()
def demo() -> None:
    """Try it without an account: load a made-up week from the embedded emulator, look at it."""
    from pipeline.demo import run_demo

    with _exit_codes():
        succeeded = run_demo(Console(stderr=True), Console())
    if not succeeded:
        raise typer.Exit(FAILED)


@app.command()
def run(start: _OptionalTime = None, end: _OptionalTime = None) -> None:
    """Load, publish and check the UTC days of [start, end).

    A time inside a day means the whole day. Without --start: the trailing window
    (MKA1_USAGE_LOOKBACK_DAYS). Without --end: through today, up to the last closed minute.
    """
    with _exit_codes():
        settings = load_settings()
        settings.key()
        first, last = _days(settings, start, end, time.time())
        from pipeline.runs import run_days
        from pipeline.terminal import short

        outcome = run_days(settings, first, last, Console(stderr=True))
    for warning in outcome.warnings:
        _say(f"warning: {warning}")
    for failure in outcome.failures:
        _say(f"error: {failure}")
    if outcome.failures:
        raise typer.Exit(FAILED)
    _say(f"done: {outcome.checks} checks passed; query it with `duckdb {short(settings.catalog)}`")


def _days(settings: Settings, start: int | None, end: int | None, now: float) -> tuple[date, date]:
    """First and last day of a run; typer.BadParameter where the window can't be loaded."""
    through = closed_through(now) - 1
    today = day_of(through)
    first = trailing_days(today, settings.lookback_days)[0] if start is None else day_of(start)
    first = max(first, settings.first_day) if start is None else first
    last = today if end is None else day_of(end - 1)
    if last < first:
        raise typer.BadParameter(
            f"the window is empty: it starts on {first} and ends before {last + timedelta(days=1)}"
        )
    if last > today:
        raise typer.BadParameter(
            f"--end lies in the future: the last day that can be loaded is today, {today}, "
            f"with --end {today + timedelta(days=1)} or without --end"
        )
    if first < settings.first_day:
        raise typer.BadParameter(
            f"--start is before the first day, {settings.first_day}: "
            f"set MKA1_USAGE_FIRST_DAY to {first} or earlier to load it"
        )
    return first, last


@app.command()
def buckets(
    start: _Start,
    end: _OptionalTime = None,
    width: Annotated[_Width, typer.Option(help="Width of a bucket.")] = _Width.DAY,
    group_by: Annotated[
        list[_GroupBy] | None, typer.Option(help="Group by it; may be given twice.")
    ] = None,
    user_id: Annotated[
        list[str] | None, typer.Option(help="Count this user only; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Buckets a page, 1 to 1440.")] = 1440,
    page: Annotated[str | None, typer.Option(help="next_page of the page before.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Count days that are not loaded as empty.")
    ] = False,
) -> None:
    """Print one page of usage buckets as JSON, exactly as the API's usage endpoint shapes it.

    Without --end: through the last minute that is loaded.
    """
    from pipeline.api.usage import UsageQuery
    from pipeline.lake.store import Lake
    from pipeline.pages import NotLoadedError, answer

    with _exit_codes():
        settings = load_settings()
        try:
            query = UsageQuery(
                start_time=start,
                end_time=end,
                bucket_width=width.value,
                limit=limit,
                page=page,
                user_ids=user_id or (),
                group_by=[field.value for field in group_by or ()],
            )
            answered = answer(Lake(settings.lake), query, partial=partial)
        except NotLoadedError as error:
            _fail(str(error), FAILED)
        except ValueError as error:
            _fail(str(error), MISUSED)
    if answered.complete_through is not None:
        _say(f"note: complete through {iso(answered.complete_through)} only")
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(answered.page, ensure_ascii=False, indent=indent) + "\n")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A query, for example: from usage_1d limit 5")],
    form: Annotated[_Format, typer.Option("--format", help="How to print it.")] = _Format.TABLE,
) -> None:
    """Query the published tables: raw_usage, usage_1m, usage_1h, usage_1d."""
    from pipeline import adhoc
    from pipeline.terminal import short

    with _exit_codes():
        settings = load_settings()
        if not settings.catalog.exists():
            _fail(
                f"there is no {short(settings.catalog)} yet: load days with `mka1-usage run`, or "
                "set MKA1_USAGE_HOME to the folder that has it",
                FAILED,
            )
        try:
            if form is _Format.TABLE:
                width = Console().width if sys.stdout.isatty() else 240
                adhoc.show(settings.catalog, settings.lake, query, width)
            else:
                adhoc.export(
                    settings.catalog, settings.lake, query, _FORMATS[form], sys.stdout.buffer
                )
        except adhoc.QueryError as error:
            _fail(str(error), MISUSED)


@app.command()
def emulator(
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 8787,
    trace: Annotated[
        Path | None, typer.Option(help="Replay this trace of real traffic instead.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same traffic.")] = 0,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Days of traffic.")] = 7,
    users: Annotated[int, typer.Option(min=1, max=100_000, help="Number of users.")] = 50,
    start: Annotated[
        int | None,
        typer.Option(parser=_time, metavar="TIME", help="First day; 2024-01-01 by default."),
    ] = None,
) -> None:
    """Serve a stand-in for the MKA1 API on this machine, with made-up or replayed traffic."""
    from pipeline.emulator import START_2024, EmulatorServer, synthetic_world, trace_world

    first = START_2024 if start is None else start
    try:
        world = (
            synthetic_world(seed=seed, start=first, days=days, users=users)
            if trace is None
            else trace_world(trace, start=first)
        )
        server = EmulatorServer(world, port=port)
        server.run(lambda url: _announce(url, server.api_key, server.api_keys))
    except (ValueError, OSError) as error:
        _fail(str(error), MISUSED)


def _announce(url: str, api_key: str, api_keys: dict[str, str]) -> None:
    ring = ",".join(f"{key_id}={secret}" for key_id, secret in api_keys.items())
    _say(
        f"serving on {url} until Ctrl-C; in another terminal:\n"
        f"  export MKA1_BASE_URL={url} MKA1_API_KEY={api_key} MKA1_API_KEYS={ring}\n"
        "  mka1-usage run --start 2024-01-01 --end 2024-01-08"
    )


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn the project's errors into one line and an exit code."""
    from pipeline.api.errors import ApiError

    try:
        yield
    except SettingsError as error:
        _fail(str(error), MISUSED)
    except (ApiError, OSError) as error:
        _fail(str(error), FAILED)


def _fail(message: str, code: int) -> NoReturn:
    _say(f"error: {message}")
    raise typer.Exit(code)


def _say(message: str) -> None:
    print(f"mka1-usage: {message}", file=sys.stderr, flush=True)
