"""forget: the command that takes a person out of all that is kept."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.completion import STORED_USERS
from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail, interruptible
from pipeline.messages import be, count
from pipeline.settings import Settings, load_settings
from pipeline.terminal import printable, say

if TYPE_CHECKING:
    from pipeline.forget import Outcome, Places
    from pipeline.forget.search import Searched
    from pipeline.orchestration.records_elsewhere import Elsewhere

_SHOWN = 10


def forget(
    user: Annotated[
        str,
        typer.Argument(
            metavar="USER",
            help="The user id; with pseudonyms, the real id or the pseudonym.",
            **STORED_USERS,
        ),
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Another word that names them; can be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a person out of every table, file and record, and prove it by a search.

    Their rows stay, under a random name, so that all totals stay; what they wrote goes. Later loads
    write that name too. It can't be undone. Exit code 1 if the search finds them still.
    """
    with exit_codes():
        settings = load_settings()
        from sqlalchemy.exc import SQLAlchemyError

        from pipeline.forget import forget as forget_person
        from pipeline.forget import person_of
        from pipeline.forget.days import count_rows
        from pipeline.forget.written import names_of, real_ids
        from pipeline.lake import user_id_mode
        from pipeline.lake.forgotten import forgotten
        from pipeline.lake.store import Lake

        lake = Lake(settings.lake, settings.lookback_days, settings.memory)
        pseudonyms = settings.pseudonyms
        user_id_mode.check(lake, pseudonyms.fingerprint if pseudonyms else None)
        try:
            names = (*(also or []), *real_ids(user, pseudonyms, _written(settings)))
            person = person_of(user, pseudonyms, names)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if person.stored_id in forgotten(lake).names:
            fail(f"{user} is the name of somebody who was forgotten already", MISUSED)
        rows, days = count_rows(lake, person)
        found = (
            f"{count(rows, 'row')} on {count(days, 'day')} {be(rows)} of"
            if rows
            else "no row is of"
        )
        say(f"{found} {printable(repr(person.stored_id))} in {lake.root}; this can't be undone")
        if not yes and not (sys.stdin.isatty() and typer.confirm("Forget them?", err=True)):
            fail(
                "nothing was changed: answer yes, or give --yes where nobody can be asked", MISUSED
            )
        for called in names_of(person, settings.names):
            shown = printable(repr(called))
            say(f"{settings.names} calls them {shown}: `--also` looks for that, too")
        with _elsewhere(settings.dagster_home) as elsewhere:
            places = _places(settings, elsewhere)
            try:
                with interruptible("run the same again, to its end"):
                    outcome = forget_person(lake, places, person, say)
            except (sqlite3.Error, SQLAlchemyError) as error:
                fail(
                    f"Dagster's records can't be rewritten ({_reason(error)}): end what has them "
                    "open, then run the same again",
                    FAILED,
                )
        _report(outcome)


@contextmanager
def _elsewhere(dagster_home: Path) -> Iterator[Elsewhere | None]:
    """The places that dagster.yaml names; None where it names none."""
    from pipeline.forget.leftovers import keeps_records_elsewhere

    if not keeps_records_elsewhere(dagster_home):
        yield None
        return
    import dagster as dg

    from pipeline.orchestration.instance import STORAGE_ERRORS
    from pipeline.orchestration.records_elsewhere import records_elsewhere

    with ExitStack() as stack:
        try:
            found = stack.enter_context(records_elsewhere(dagster_home))
        except (dg.DagsterError, *STORAGE_ERRORS, ImportError, ConnectionError) as error:
            fail(
                f"{dagster_home / 'dagster.yaml'}: the records of Dagster can't be looked at "
                f"({_reason(error)}), so nothing was changed: `mka1-usage doctor` says what to do",
                FAILED,
            )
        yield found


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]


def _written(settings: Settings) -> tuple[Path, ...]:
    return settings.names, settings.budgets, settings.prices


def _places(settings: Settings, elsewhere: Elsewhere | None) -> Places:
    from pipeline.forget import Places
    from pipeline.shared_lake import open_shared_lake, place_of

    place = place_of(settings.shared_catalog, settings.shared_warehouse)
    return Places(
        home=settings.home,
        catalog=settings.catalog,
        export_dir=settings.export_dir,
        dagster_home=settings.dagster_home,
        records=() if elsewhere is None else elsewhere.folders,
        databases=() if elsewhere is None else elsewhere.databases,
        written=_written(settings),
        shared=None if place is None else open_shared_lake(place),
    )


def _report(outcome: Outcome) -> None:
    searched = outcome.searched
    for place, lines in [*searched.found.items()][:_SHOWN]:
        for where in [f"{place}, line {line}" for line in lines] or [place]:
            print(f"{where}: names them still")
    for place, why in [*searched.unread.items()][:_SHOWN]:
        print(f"{place}: can't be read ({why})")
    say(_looked_at(searched))
    if not outcome.proven:
        left = len(searched.found) + len(searched.unread)
        fail(
            f"{count(left, 'place')} {be(left)} left: edit or remove what is named above, then run "
            "the same again",
            FAILED,
        )
    say(f"nothing names them any more; their rows are those of {outcome.name}")


def _looked_at(searched: Searched) -> str:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(searched.kinds.items()))
    return f"{count(searched.files, 'file')} read, {searched.bytes / 1e6:,.1f} MB: {kinds}"
