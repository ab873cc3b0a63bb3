"""demo, run, refresh: the commands that load."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.cli.exit_codes import FAILED, exit_codes, interruptible
from pipeline.cli.network import say_route
from pipeline.cli.options import OptionalTime, with_periods
from pipeline.messages import count
from pipeline.settings import Settings, load_settings
from pipeline.terminal import say, short
from pipeline.timeline import (
    closed_through,
    day_of,
    day_window,
    in_words,
    iso,
    spans,
    trailing_days,
)

if TYPE_CHECKING:
    from pipeline.orchestration.runs import Outcome
    from pipeline.usage.changed_hours import Reads


def demo() -> None:
    """Try it without an account: load a made-up week from the embedded emulator, look at it.

    Everything is kept below the home folder, in `demo`.
    """
    with exit_codes():
        say("loading a made-up week of a small LLM platform, served by the embedded emulator")
        from pipeline.cli.tour import run_demo

        report_outcome(_interruptibly(lambda: run_demo(Console(stderr=True), Console())))


@with_periods
def run(
    start: OptionalTime = None,
    end: OptionalTime = None,
    usage_only: Annotated[
        bool, typer.Option("--usage-only", help="Leave conversations alone.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="Read every minute and conversation again, changed or not."),
    ] = False,
) -> None:
    """Load, publish and check the UTC days of [start, end).

    A time inside a day means the whole day. Without --start: the trailing window
    (MKA1_USAGE_LOOKBACK_DAYS), of which the hours are read whose totals have changed. Without
    --end: through today, up to the last closed minute. Where keys are set to list with
    (MKA1_API_KEYS), the conversations of those with usage follow.
    """
    with exit_codes():
        settings = load_settings()
        settings.key()
        first, last = _days(settings, start, end, time.time())
        say_route(settings)
        say(f"loading {first} to {last} from {settings.base_url}")
        from pipeline.orchestration.runs import run_conversations, run_days

        console = Console(stderr=True)
        flags = ("--usage-only",) * usage_only + ("--full",) * full
        reads: Reads = "totals" if start is None and not full else "full"
        outcome = _interruptibly(lambda: run_days(settings, first, last, console, flags, reads))
        report_outcome(outcome)
        checks, warnings = outcome.checks, len(outcome.warnings)
        if settings.keys() and not usage_only:
            say("reading the conversations of those with usage on these days")
            outcome = _interruptibly(
                lambda: run_conversations(settings, first, last, console, full=full)
            )
            report_outcome(outcome)
            checks, warnings = checks + outcome.checks, warnings + len(outcome.warnings)
        say(
            f"done: {count(checks, 'check')} ran, {warnings} warned; the tables are in "
            f"{short(settings.catalog)}, for `mka1-usage sql` or any DuckDB client"
        )


def _interruptibly(work: Callable[[], Outcome]) -> Outcome:
    kept = "the days published so far are kept; run the same again to go on"
    with interruptible(kept) as interrupted:
        outcome = work()
        if interrupted():  # it came when the run had nothing left to do
            raise KeyboardInterrupt
        return outcome


def report_outcome(outcome: Outcome) -> None:
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
            f"{first} is before the first day, {settings.first_day}: "
            f"set MKA1_USAGE_FIRST_DAY to {first} or earlier to load it"
        )
    return first, last


def refresh() -> None:
    """Compare all that is loaded with the API's own days, and load again exactly what differs.

    One cheap question covers 1,440 days. Every value that changed goes to the table `revisions`.
    Where conversations were reconciled on a day that changed, they are held against it again.
    """
    with exit_codes():
        settings = load_settings()
        settings.key()
        say_route(settings)
        from pipeline.lake.store import Lake
        from pipeline.orchestration.runs import run_conversations, run_refresh
        from pipeline.usage.refresh import Refreshed

        changed: list[date] = []

        def found(refreshed: Refreshed) -> None:
            of = f"{refreshed.endpoint}: " if refreshed.endpoint else ""
            say(
                f"{of}{count(len(refreshed.compared), 'day')} compared in "
                f"{count(refreshed.requests, 'request')}; restated or loaded in part: "
                f"{in_words(refreshed.changed)}"
            )
            if not refreshed.endpoint:
                changed.extend(refreshed.changed)

        console = Console(stderr=True)
        report_outcome(_interruptibly(lambda: run_refresh(settings, console, found)))
        reconciled = set(Lake(settings.lake).days("reconciliation")).intersection(changed)
        for first, last in spans(reconciled) if settings.keys() else ():
            outcome = _interruptibly(partial(run_conversations, settings, first, last, console))
            report_outcome(outcome)
        say(f"done: {count(len(changed), 'day')} loaded again")
