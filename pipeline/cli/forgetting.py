"""forget: the command that takes a person out of all that is kept."""

from __future__ import annotations

import sqlite3
import sys
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
        from pipeline.forget import forget as forget_person
        from pipeline.forget import person_of
        from pipeline.forget.days import count_rows
        from pipeline.lake import user_id_mode
        from pipeline.lake.store import Lake

        lake = Lake(settings.lake, settings.lookback_days, settings.memory)
        pseudonyms = settings.pseudonyms
        user_id_mode.check(lake, pseudonyms.fingerprint if pseudonyms else None)
        try:
            person = person_of(user, pseudonyms, also or [])
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        places = _places(settings)
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
        try:
            with interruptible("run the same again, to its end"):
                outcome = forget_person(lake, places, person, say)
        except sqlite3.Error as error:
            fail(
                f"Dagster's records in {settings.dagster_home} can't be rewritten ({error}): end "
                "what has them open, then run the same again",
                FAILED,
            )
        _report(outcome)


def _places(settings: Settings) -> Places:
    from pipeline.forget import Places
    from pipeline.shared_lake import open_shared_lake, place_of

    place = place_of(settings.shared_catalog, settings.shared_warehouse)
    return Places(
        home=settings.home,
        catalog=settings.catalog,
        export_dir=settings.export_dir,
        dagster_home=settings.dagster_home,
        shared=None if place is None else open_shared_lake(place),
    )


def _report(outcome: Outcome) -> None:
    searched = outcome.searched
    for path in searched.found[:_SHOWN]:
        print(f"{path}: names them still")
    for path, why in [*searched.unread.items()][:_SHOWN]:
        print(f"{path}: can't be read ({why})")
    say(_looked_at(searched))
    if not outcome.proven:
        left = len(searched.found) + len(searched.unread)
        fail(
            f"{count(left, 'file')} {be(left)} left: mend or remove what is named above, then run "
            "the same again",
            FAILED,
        )
    say(f"nothing names them any more; their rows are those of {outcome.name}")


def _looked_at(searched: Searched) -> str:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(searched.kinds.items()))
    return f"{count(searched.files, 'file')} read, {searched.bytes / 1e6:,.1f} MB: {kinds}"
