"""`mka1-usage`: arguments in, exit codes out.

Belongs here: reading arguments and settings, and calling what does the work. Data goes to stdout,
everything else to stderr. Exit codes: 0 done, 1 the run failed, 2 bad arguments or settings, 130
interrupted. Does not belong here: work, or how messages look (`pipeline.terminal`). Heavy modules
are imported by the commands that need them.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import typer
from rich.console import Console

from pipeline.settings import Settings, SettingsError, load_settings
from pipeline.terminal import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    exit_codes,
    fail,
    in_words,
    say,
    short,
)
from pipeline.timeline import (
    WIDTHS,
    Width,
    closed_through,
    day_of,
    day_window,
    iso,
    parse_time,
    spans,
    trailing_days,
)
from pipeline.timeline import (
    in_words as in_words_of_days,
)

if TYPE_CHECKING:
    from pipeline.runs import Outcome

app: Final = typer.Typer(
    name="mka1-usage",
    help="Usage analytics for MKA1: who used what, per minute, hour and day.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_TIME: Final = "ISO date, ISO time (UTC unless it says otherwise) or Unix seconds"


_NO_TERMINAL: Final = 240
"""Columns of a table that goes to a file or a pipe."""

_GroupBy = Literal["user_id", "api_key_id"]
_Format = Literal["table", "csv", "json", "parquet"]


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _one_of(*choices: str) -> Any:
    """An option that takes one of `choices`, for typer: it says so in help and in complaints."""

    def chosen(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(choices)}")
        return text

    return {"parser": chosen, "metavar": "|".join(choices)}


_Start = Annotated[int, typer.Option("--start", parser=_time, metavar="TIME", help=_TIME)]
_OptionalTime = Annotated[int | None, typer.Option(parser=_time, metavar="TIME", help=_TIME)]


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character of some id gets it escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    os.umask(0o077)  # what is written is its owner's: Dagster's files too
    app()


@app.command(short_help="Try it without an account, on a made-up week.")
def demo() -> None:
    """Try it without an account: load a made-up week from the embedded emulator, look at it.

    Everything is kept below the home folder, in `demo`.
    """
    with exit_codes():
        say("loading a made-up week of a small LLM platform, served by the embedded emulator")
        from pipeline.demo import run_demo

        _report(_interruptibly(lambda: run_demo(Console(stderr=True), Console())))


@app.command(short_help="Load, publish and check UTC days.")
def run(
    start: _OptionalTime = None,
    end: _OptionalTime = None,
    usage_only: Annotated[
        bool, typer.Option("--usage-only", help="Leave conversations alone.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Read every conversation again, not what is new alone.")
    ] = False,
) -> None:
    """Load, publish and check the UTC days of [start, end).

    A time inside a day means the whole day. Without --start: the trailing window
    (MKA1_USAGE_LOOKBACK_DAYS). Without --end: through today, up to the last closed minute. Where
    keys are set to list with (MKA1_API_KEYS), the conversations of those with usage follow.
    """
    if usage_only and full:
        raise typer.BadParameter("--full is about conversations, --usage-only leaves them alone")
    with exit_codes():
        settings = load_settings()
        settings.key()
        first, last = _days(settings, start, end, time.time())
        say(f"loading {first} to {last} from {settings.base_url}")
        from pipeline.runs import run_conversations, run_days

        console = Console(stderr=True)
        outcome = _interruptibly(lambda: run_days(settings, first, last, console))
        _report(outcome)
        checks, warnings = outcome.checks, len(outcome.warnings)
        if settings.keys() and not usage_only:
            say("reading the conversations of those with usage on these days")
            outcome = _interruptibly(
                lambda: run_conversations(settings, first, last, console, full=full)
            )
            _report(outcome)
            checks, warnings = checks + outcome.checks, warnings + len(outcome.warnings)
        say(
            f"done: {checks} checks ran, {warnings} warned; the tables are in "
            f"{short(settings.catalog)}, for `mka1-usage sql` or any DuckDB client"
        )


def _interruptibly(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except KeyboardInterrupt:
        say("interrupted: the days published so far are kept; run the same again to go on")
        raise typer.Exit(INTERRUPTED) from None


def _report(outcome: Outcome) -> None:
    """Say what went wrong in a run; typer.Exit if it failed."""
    for warning in outcome.warnings:
        say(f"warning: {warning}")
    for failure in outcome.failures:
        say(f"error: {failure}")
    if outcome.failures:
        raise typer.Exit(FAILED)


def _days(settings: Settings, start: int | None, end: int | None, now: float) -> tuple[date, date]:
    """First and last day of a run; typer.BadParameter where the window can't be loaded."""
    today = day_of(closed_through(now) - 1)
    if start is None:
        first = max(trailing_days(today, settings.lookback_days)[0], settings.first_day)
        start = day_window(first).start
        whence = f"the trailing window starts on {first}: give --start"
    else:
        first = day_of(start)
        whence = f"--start is {iso(start)}"
    if first > today:
        raise typer.BadParameter(
            f"{first} has not begun: the last day that can be loaded is today, {today}"
        )
    if end is not None and end <= start:
        raise typer.BadParameter(f"the window is empty: --end is {iso(end)}, {whence}")
    last = today if end is None else day_of(end - 1)
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


@app.command(short_help="Show which days are loaded, stale or missing.")
def status(start: _OptionalTime = None, end: _OptionalTime = None) -> None:
    """Show what is known of each day as a calendar, and what to run for what is not.

    Without --start: from the first day that is loaded. Without --end: through today.
    """
    from pipeline.lake.store import Lake
    from pipeline.status import print_status, states

    with exit_codes():
        settings = load_settings()
        lake = Lake(settings.lake, settings.lookback_days)
        first = None if start is None else day_of(start)
        last = None if end is None else day_of(end - 1)
        days = states(lake, first, last, time.time())
        if days.complete_through is None:
            fail(f"nothing is loaded in {short(settings.lake)}: `mka1-usage run` loads", FAILED)
        print_status(days, Console() if sys.stdout.isatty() else Console(width=_NO_TERMINAL))


@app.command(short_help="Find what the API has restated, and load it again.")
def refresh() -> None:
    """Compare all that is loaded with the API's own days, and load again exactly what differs.

    One cheap question covers 1,440 days. Every value that changed goes to the table `revisions`.
    Where conversations were reconciled on a day that changed, they are held against it again.
    """
    with exit_codes():
        settings = load_settings()
        settings.key()
        from pipeline.lake.store import Lake
        from pipeline.refreshing import Refreshed
        from pipeline.runs import run_conversations, run_refresh

        changed: list[date] = []

        def found(refreshed: Refreshed) -> None:
            say(
                f"{len(refreshed.compared):,} days compared in {refreshed.requests:,} requests; "
                f"restated or loaded in part: {in_words_of_days(refreshed.changed)}"
            )
            changed.extend(refreshed.changed)

        console = Console(stderr=True)
        _report(_interruptibly(lambda: run_refresh(settings, console, found)))
        reconciled = set(Lake(settings.lake).days("reconciliation")).intersection(changed)
        for first, last in spans(reconciled) if settings.keys() else ():
            outcome = _interruptibly(partial(run_conversations, settings, first, last, console))
            _report(outcome)
        say(f"done: {len(changed):,} days were loaded again")


@app.command(short_help="Re-read the lake, and name every file that is not what was published.")
def verify() -> None:
    """Hold every file of the lake against what was recorded when it was published.

    Names each file that was changed, cut short, removed or put there by somebody else, and each day
    whose tables contradict each other. Exit code 1 if there is any.
    """
    from pipeline.lake.store import Lake
    from pipeline.lake.verification import verify as verify_lake

    with exit_codes():
        settings = load_settings()
        verified = verify_lake(Lake(settings.lake), settings.catalog)
        for problem in verified.problems:
            print(problem)
        to_load = {problem.day for problem in verified.problems if problem.day is not None}
        for first, last in spans(to_load):
            say(f"to mend it: mka1-usage run --start {first} --end {last + timedelta(days=1)}")
        if verified.problems:
            fail(f"{len(verified.problems):,} things are not as they were published", FAILED)
        say(f"{verified.days:,} days, {verified.files:,} files: all are as they were published")


@app.command(short_help="Hold what is reported against what was observed.")
def reconcile(
    start: _OptionalTime = None,
    end: _OptionalTime = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many of the worst differences to print.")
    ] = 20,
) -> None:
    """Print how far the reported usage agrees with the conversations, items and responses listed.

    Per day, user, key and measure, as of the last `mka1-usage run` over these days. Without --start
    and --end: all days that are reconciled.
    """
    from pipeline.reconciled import NothingReconciledError, print_reconciliation

    with exit_codes():
        settings = load_settings()
        first, last = (
            (None if start is None else day_of(start)),
            (None if end is None else day_of(end - 1)),
        )
        try:
            out = Console() if sys.stdout.isatty() else Console(width=_NO_TERMINAL)
            print_reconciliation(settings.lake, first, last, limit, out)
        except NothingReconciledError as error:
            fail(str(error), FAILED)


@app.command(short_help="Add marked items, and see when usage counts them. Writes!")
def probe(
    conversation: Annotated[
        str, typer.Option(metavar="ID", help="The conversation to add items to.")
    ],
    items: Annotated[int, typer.Option(metavar="N", help="How many items to add.")],
    on_behalf_of: Annotated[
        str | None, typer.Option(metavar="USER", help="The end user to act for.")
    ] = None,
    key_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A key of MKA1_API_KEYS; by default MKA1_API_KEY."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long to watch after the last item.")
    ] = 900.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Measure how late the usage endpoint counts, and whether it counts exactly.

    The only command that writes to the API: it adds N marked items to a conversation, at most 20 a
    request, and never one twice. Then it watches the usage endpoint until all are counted.
    """
    with exit_codes():
        settings = load_settings()
        from pipeline.api import ApiError
        from pipeline.probing import plan_of, run_probe

        try:
            asked = plan_of(settings, conversation, items, on_behalf_of, key_id)
        except SettingsError:
            raise
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        say(asked.words)
        if not yes and not (sys.stdin.isatty() and typer.confirm("Go on?", err=True)):
            fail("nothing was added: answer yes, or give --yes where nobody can be asked", MISUSED)
        try:
            result = run_probe(settings, asked, patience, say)
        except ApiError as error:
            fail(str(error), FAILED)
        except KeyboardInterrupt:
            say(f"interrupted: items marked {asked.mark} may have been added")
            raise typer.Exit(INTERRUPTED) from None
        print(result.sentence)


@app.command(short_help="Print usage buckets as the API would.")
def buckets(
    start: _Start,
    end: _OptionalTime = None,
    width: Annotated[Width, typer.Option(help="Width of a bucket.", **_one_of(*WIDTHS))] = "1d",
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="Group by it; may be given twice.", **_one_of("user_id", "api_key_id")),
    ] = None,
    user_id: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Count this user only; may be repeated.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", help="Most buckets on a page, 1 to 1440.")
    ] = 1440,
    page: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="next_page of the page before.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Count days that are not loaded as empty.")
    ] = False,
) -> None:
    """Print one page of usage buckets as JSON, exactly as the API's usage endpoint shapes it.

    Without --end: through the last minute that is loaded.
    """
    if end is not None and end <= start:
        raise typer.BadParameter(
            f"the window is empty: --start is {iso(start)}, --end is {iso(end)}"
        )
    from pipeline.api.usage import UsageQuery
    from pipeline.lake.identity import IdentityError, check
    from pipeline.lake.store import Lake
    from pipeline.pages import NotLoadedError, answer

    with exit_codes():
        settings = load_settings()
        lake, pseudonyms, users = Lake(settings.lake), settings.pseudonyms, user_id or []
        try:
            if users:  # of ids of another kind the lake would say that they have no usage
                check(lake, pseudonyms.fingerprint if pseudonyms else None)
            query = UsageQuery(
                start_time=start,
                end_time=end,
                bucket_width=width,
                limit=limit,
                page=page,
                user_ids=[pseudonyms.of(user) for user in users] if pseudonyms else users,
                group_by=cast("list[_GroupBy]", group_by or []),
            )
            answered = answer(lake, query, partial=partial)
        except (NotLoadedError, IdentityError) as error:
            fail(str(error), FAILED)
        except ValueError as error:
            fail(str(error), MISUSED)
        if answered.complete_through is not None:
            say(f"note: complete through {iso(answered.complete_through)} only")
        indent = 2 if sys.stdout.isatty() else None
        text = json.dumps(answered.page, ensure_ascii=False, indent=indent)
        sys.stdout.buffer.write(f"{text}\n".encode())  # JSON is UTF-8, whatever the locale is


@app.command(short_help="Query the published tables.")
def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="For example: from usage_1d limit 5")
    ],
    form: Annotated[
        _Format,
        typer.Option(
            "--format", help="How to print it.", **_one_of("table", "csv", "json", "parquet")
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
) -> None:
    """Query the published tables, read-only: usage_1m, usage_1h, usage_1d and the others.

    It reads the lake and, with --allow, any file in DIR. So no folder that holds a `.env`.
    """
    if form == "parquet" and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is no text for a terminal: add `> result.parquet`")
    from pipeline import adhoc

    with exit_codes():
        settings = load_settings()
        if not settings.catalog.exists():
            fail(
                f"there is no {short(settings.catalog)} yet: load days with `mka1-usage run`, or "
                "set MKA1_USAGE_HOME to the folder that has it",
                FAILED,
            )
        try:
            if form == "table":
                width = Console().width if sys.stdout.isatty() else _NO_TERMINAL
                adhoc.show(settings.catalog, settings.lake, query, width, allow or ())
            else:
                adhoc.export(
                    settings.catalog, settings.lake, query, form, sys.stdout.buffer, allow or ()
                )
        except adhoc.QueryError as error:
            fail(str(error), MISUSED)


@app.command(short_help="Serve a stand-in for the MKA1 API.")
def emulator(
    port: Annotated[
        int,
        typer.Option(min=0, max=65_535, metavar="PORT", help="On loopback; 0 takes a free one."),
    ] = 8787,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replay this trace of real traffic instead.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same traffic.")] = 0,
    days: Annotated[int, typer.Option(min=1, max=3660, metavar="N", help="Days of traffic.")] = 7,
    users: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Number of users.")
    ] = 50,
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
        last = max((event.second for event in world.events()), default=first)
        example = f"--start {day_of(first)} --end {day_of(last) + timedelta(days=1)}"
        with suppress(KeyboardInterrupt):  # which is how one is told to stop
            server.run(lambda url: _announce(url, server.api_key, server.api_keys, example))
    except ValueError as error:
        fail(str(error), MISUSED)
    except OSError as error:
        fail(in_words(error), MISUSED)


def _announce(url: str, api_key: str, api_keys: dict[str, str], example: str) -> None:
    ring = ",".join(f"{key_id}={secret}" for key_id, secret in api_keys.items())
    say(
        f"serving on {url} until Ctrl-C; in another terminal:\n"
        f"  export MKA1_BASE_URL={url} MKA1_API_KEY={api_key}\n"
        f"  export MKA1_API_KEYS={ring}\n"
        f"  mka1-usage run {example}"
    )
