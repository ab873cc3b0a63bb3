"""status, verify, reconcile, probe: the commands that say how far what is there is right."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import date
from typing import Annotated

import typer

from pipeline import messages
from pipeline.cli.completion import KEYS, USERS
from pipeline.cli.damage import left_out, nothing_loaded, reading
from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail, interruptible
from pipeline.cli.network import say_route
from pipeline.cli.options import OptionalTime, days_of, not_empty, stdout, with_periods
from pipeline.cli.sharing import failing, opened, say_age
from pipeline.messages import count
from pipeline.settings import Settings, SettingsError, load_settings
from pipeline.terminal import say
from pipeline.timeline import in_words, spans


@with_periods
def status(start: OptionalTime = None, end: OptionalTime = None) -> None:
    """Show what is known of each day as a calendar, and what to run for what is not.

    Without --start: from the first day that is loaded. Without --end: through today.
    """
    not_empty(start, end)
    from pipeline.lake.retention import dropped_days
    from pipeline.lake.snapshot import Snapshot
    from pipeline.lake.snapshot import left_out as words
    from pipeline.lake.store import Lake
    from pipeline.query.status import print_status, states

    with exit_codes():
        settings = load_settings()
        lake = Lake(settings.lake, settings.lookback_days, settings.memory)
        say_age(settings, lake)
        with reading(lake):
            days = states(Snapshot(lake), *days_of(start, end), time.time())
        for one in days.damage:
            left_out(words(one))
        if days.complete_through is None and not days.damage:
            nothing_loaded(settings.lake)
        out = stdout()
        print_status(days, out)
        gone = [f"  {kind} of {in_words(days)}" for kind, days in dropped_days(lake).items()]
        if gone:
            out.print("\n".join(["\nNot kept any more:", *gone]), highlight=False, soft_wrap=True)


def verify() -> None:
    """Hold every file of the lake against what was recorded when it was published.

    Names each file that was changed, cut short, removed or put there by somebody else, and each day
    whose tables contradict each other. Where a shared lake is set, its files too. Exit code 1 if
    there is any, and if nothing is loaded.
    """
    from pipeline.lake.store import Lake
    from pipeline.lake.verification import verify as verify_lake

    with exit_codes():
        settings = load_settings()
        verified = verify_lake(Lake(settings.lake, memory=settings.memory), settings.catalog)
        shared = _verify_shared(settings)
        if not verified.days and not shared.days:
            nothing_loaded(settings.lake)
        problems = verified.problems if verified.days else ()
        for problem in problems:
            print(problem)
        full = {problem.day for problem in problems if problem.day and problem.full}
        to_load = {problem.day for problem in problems if problem.day} - full
        for days, flags in ((to_load, ()), (full, ("--full",))):
            for first, last in spans(days):
                say(f"to fix it: {messages.run(first, last, *flags)}")
        for first, last in spans(shared.to_load):
            say(f"to fix it: {messages.run(first, last, '--full')}")
        found = len(problems) + shared.problems
        if found:
            fail(f"{count(found, 'problem')} found", FAILED)
        if verified.days:
            say(
                f"{count(verified.days, 'day')}, {count(verified.files, 'file')}: "
                "all are as they were published"
            )
        if shared.days:
            say(f"the shared lake, {count(shared.days, 'day')}: all are as they were published")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What was found in a shared lake; nothing where none is set."""

    days: int = 0
    problems: int = 0
    to_load: frozenset[date] = frozenset()


def _verify_shared(settings: Settings) -> _Shared:
    """Print what is not as it was published in the shared lake, where one is set."""
    if settings.shared_catalog is None:
        return _Shared()
    with failing():
        shared = opened(settings)
        problems = 0
        to_load: set[date] = set()
        for problem in shared.verify():
            print(problem)
            problems += 1
            to_load.add(problem.day)
        return _Shared(len(shared.days()), problems, frozenset(to_load))


@with_periods
def reconcile(
    start: OptionalTime = None,
    end: OptionalTime = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many of the worst differences to print.")
    ] = 20,
) -> None:
    """Print how far the reported usage agrees with the conversations, items and responses listed.

    Per day, user, key and measure, as of the last `mka1-usage run` over these days. Without --start
    and --end: all days that are reconciled. Where bills and prices are there, how far those agree.
    """
    not_empty(start, end)
    from pipeline.cli.pricing import price_list
    from pipeline.lake.snapshot import Snapshot
    from pipeline.lake.store import Lake
    from pipeline.pricing import bill_check
    from pipeline.query.reconciliation import NothingReconciledError, print_reconciliation

    with exit_codes():
        settings = load_settings()
        first, last = days_of(start, end)
        lake, prices = Lake(settings.lake, memory=settings.memory), price_list(settings)
        with reading(lake):
            nothing: NothingReconciledError | None = None
            try:
                print_reconciliation(settings.lake, first, last, limit, stdout(), left_out)
            except NothingReconciledError as error:
                nothing = error
            snapshot = Snapshot(lake, names=bill_check.NAMES)
            days = [
                day
                for day in snapshot.versions
                if (first is None or first <= day) and (last is None or day <= last)
            ]
            if not bill_check.print_bill_check(snapshot, prices, days, stdout()) and nothing:
                fail(str(nothing), FAILED)


def probe(
    conversation: Annotated[
        str, typer.Option(metavar="ID", help="The conversation to add items to.")
    ],
    items: Annotated[int, typer.Option(metavar="N", help="How many items to add.")],
    on_behalf_of: Annotated[
        str | None, typer.Option(metavar="USER", help="The end user to act for.", **USERS)
    ] = None,
    key_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A key of MKA1_API_KEYS; by default MKA1_API_KEY.", **KEYS),
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
        from pipeline.cli.delay_probe import in_words, plan_of, run_probe

        try:
            plan, key = plan_of(settings, conversation, items, on_behalf_of, key_id)
        except SettingsError:
            raise
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        say_route(settings)
        say(in_words(settings, plan))
        if not yes and not (sys.stdin.isatty() and typer.confirm("Go on?", err=True)):
            fail("nothing was added: answer yes, or give --yes where nobody can be asked", MISUSED)
        try:
            with interruptible(f"items marked {plan.mark} may have been added"):
                result = run_probe(settings, plan, key, patience, say)
        except ApiError as error:
            fail(str(error), FAILED)
        print(result.sentence)
