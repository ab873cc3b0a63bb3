"""names check: the command about what people call users, keys and teams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.cli.damage import left_out, nothing_loaded, reading
from pipeline.cli.exit_codes import MISUSED, exit_codes, fail
from pipeline.cli.options import stdout
from pipeline.messages import count
from pipeline.settings import Settings, load_settings
from pipeline.terminal import say, short

if TYPE_CHECKING:  # a command that needs no names waits for none
    from pipeline.lake.store import Lake
    from pipeline.names.file import Names

names: typer.Typer = typer.Typer(
    no_args_is_help=True, help="What people call users, keys, teams and cost centres."
)


def named(settings: Settings, lake: Lake, path: Path | None = None) -> Names:
    """The names as they are now, or those in `path`; ends with their one line where they are
    wrong."""
    from pipeline.names.file import load_names
    from pipeline.pricing.hand_written import HandWrittenError

    try:
        found = load_names(settings, lake, path)
    except HandWrittenError as error:
        fail(str(error), MISUSED)
    if found.unread:
        say(
            f"warning: {count(found.unread, 'line')} of users are left out of the names: the lake "
            "has pseudonyms, and MKA1_USAGE_PSEUDONYM_KEY is not set"
        )
    return found


@names.command()
def check() -> None:
    """Read the names, and hold them against who is in use.

    Names users and keys that are not in the file, lines that nothing uses, teams without a name,
    and names that several have. Exit code 2 if the file is wrong.
    """
    from pipeline.lake.snapshot import Snapshot
    from pipeline.lake.store import Lake
    from pipeline.names.check import check_names, print_check

    with exit_codes():
        settings = load_settings()
        lake = Lake(settings.lake, memory=settings.memory)
        found = named(settings, lake)
        if not found.rows and not found.nameless:
            say(f"note: there are no names in {short(settings.names)}, so ids show as they are")
        snapshot = Snapshot(lake, names=("usage_1h", "coverage"))
        with reading(lake):
            for warning in snapshot.warnings:
                left_out(warning)
            if snapshot.extent is None:
                nothing_loaded(settings.lake)
            checked = check_names(snapshot, found)
        print_check(checked, found, stdout())
