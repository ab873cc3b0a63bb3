"""What a person at a terminal sees: messages, exit codes, and progress while days are loaded.

Belongs here: one-line messages on stderr, errors as exit codes, a progress bar on a terminal and
plain log lines elsewhere, paths as one would type them. Does not belong here: results, which go to
stdout from the commands themselves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.settings import SettingsError

if TYPE_CHECKING:  # commands that load nothing need not wait for what loading needs
    from pipeline.loading import Progress as Loading
    from pipeline.syncing import Synced, SyncProgress

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into one line and an exit code; a reader that has gone away ends it quietly."""
    try:
        yield
        sys.stdout.flush()
    except SettingsError as error:
        fail(str(error), MISUSED)
    except BrokenPipeError:
        # `| head` has what it wanted. Without this, Python would complain again at its own exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail(in_words(error), FAILED)


def in_words(error: OSError) -> str:
    """The error without its number: `/data/lake: Permission denied`."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def fail(message: str, code: int) -> NoReturn:
    """Say what went wrong and end with that exit code."""
    say(f"error: {message}")
    raise typer.Exit(code)


def say(message: str) -> None:
    """Write a message to stderr, under the command's name."""
    print(f"mka1-usage: {message}", file=sys.stderr, flush=True)


@contextmanager
def showing(
    console: Console, first: date | None = None, last: date | None = None
) -> Iterator[Callable[[Loading], None]]:
    """A listener that draws a bar on a terminal and writes plain lines elsewhere.

    Without days, the bar does not know how many there will be.
    """
    if not console.is_terminal:
        yield _line
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days  {task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        known = first is not None and last is not None
        title = f"{first} to {last}" if known else "days"
        days = (last - first).days + 1 if first is not None and last is not None else None
        task = progress.add_task(title, total=days, rows=0)
        rows: dict[date, int] = {}

        def listener(loading: Loading) -> None:
            if loading.waiting:
                progress.console.print(_waiting(loading), highlight=False)
            rows[loading.day] = loading.rows
            done = 1 if loading.published else 0
            progress.update(task, advance=done, rows=sum(rows.values()))

        yield listener


@contextmanager
def showing_listings(console: Console) -> Iterator[Callable[[SyncProgress], None]]:
    """A listener that draws a bar over listings on a terminal, and is silent elsewhere."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("listings  {task.fields[items]:,} items"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("conversations", total=None, items=0)

        def listener(sync: SyncProgress) -> None:
            progress.update(task, total=sync.listings, completed=sync.read, items=sync.items)

        yield listener


def tell_synced(synced: Synced) -> None:
    """Say what a sync brought, and what it could not see."""
    for gap in synced.gaps:
        say(f"not seen: {gap}")
    say(
        f"{synced.listings:,} listings read and {synced.unchanged:,} unchanged, in "
        f"{synced.requests:,} requests: {synced.conversations:,} conversations, "
        f"{synced.items:,} new items, {synced.responses:,} responses"
    )


def tell_odd_text(sentence: str) -> None:
    """Say where answers held text that is not Unicode."""
    say(f"warning: {sentence}")


def _waiting(loading: Loading) -> str:
    return f"{loading.day} is being loaded by another run: waiting until that is done"


def _line(loading: Loading) -> None:
    if loading.waiting:
        say(_waiting(loading))
    if loading.published:
        rows = loading.published.rows
        became = "published" if loading.published.changed else "unchanged"
        print(
            f"{loading.day} {became}: {rows['raw_usage']:,} rows served, "
            f"{rows['usage_1m']:,} by minute, {rows['usage_1h']:,} by hour, "
            f"{rows['usage_1d']:,} by day",
            file=sys.stderr,
            flush=True,
        )


def short(path: Path) -> str:
    """The path as one would type it from the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
