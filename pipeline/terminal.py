"""What a person at a terminal sees: messages, exit codes, and progress while days are loaded.

Belongs here: one-line messages on stderr, errors as exit codes, a progress bar on a terminal and
plain log lines elsewhere, paths as one would type them.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.interrupts import interrupts
from pipeline.settings import SettingsError
from pipeline.words import count, noun

if TYPE_CHECKING:  # commands that load nothing need not wait for what loading needs
    from pipeline.loading import Progress as Loading
    from pipeline.syncing import Synced, SyncProgress

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 128 + signal.SIGINT

_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


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


@contextmanager
def interruptible(consequence: str) -> Iterator[Callable[[], int | None]]:
    """Say what follows when a signal ends the work, and end with 128 + its number.

    Yields a function: the number of the signal that came, None if none did.
    """
    with interrupts() as came:
        try:
            yield came
        except KeyboardInterrupt:
            say(f"interrupted: {consequence}")
            raise typer.Exit(128 + (came() or signal.SIGINT)) from None


def in_words(error: OSError) -> str:
    """The error without its number: `/data/lake: Permission denied`."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def fail(message: str, code: int) -> NoReturn:
    """Say what went wrong and end with that exit code."""
    say(f"error: {message}")
    raise typer.Exit(code)


def tolerant(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stream, for messages: a terminal or pipe that is closed ends no run.

    What can't be written is lost.
    """
    return _Tolerant(
        stream.buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Tolerant(io.TextIOWrapper):
    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if error.errno in {errno.EIO, errno.EPIPE}:  # for good: nobody reads there any more
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


def say(message: str) -> None:
    """Write a message to stderr, under the command's name."""
    print(f"mka1-usage: {printable(message)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text without what a terminal obeys instead of showing it, which ids may hold: control
    characters (C0, DEL, C1) but line ends and tabs, and marks that turn the direction of writing.

    Each is written as JSON escapes it, so that JSON stays the same JSON.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
    with _bar(console) as progress:
        days = None if first is None or last is None else (last - first).days + 1
        title = "days" if days is None else f"{first} to {last}"
        task = progress.add_task(title, total=days, brought=_brought("day", days, "row", 0))
        rows: dict[date, int] = {}

        def listener(loading: Loading) -> None:
            if loading.waiting:
                progress.console.print(_waiting(loading), highlight=False)
            rows[loading.day] = loading.rows
            done = 1 if loading.published else 0
            brought = _brought("day", days, "row", sum(rows.values()))
            progress.update(task, advance=done, brought=brought)

        yield listener


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[brought]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def _brought(part: str, parts: int | None, row: str, rows: int) -> str:
    """What follows the number of parts that are done, as in `1/2 days  3 rows`."""
    return f"{noun(0 if parts is None else parts, part)}  {count(rows, row)}"


@contextmanager
def showing_listings(console: Console) -> Iterator[Callable[[SyncProgress], None]]:
    """A listener that draws a bar over listings on a terminal, and is silent elsewhere."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with _bar(console) as progress:
        brought = _brought("listing", None, "item", 0)
        task = progress.add_task("conversations", total=None, brought=brought)

        def listener(sync: SyncProgress) -> None:
            brought = _brought("listing", sync.listings, "item", sync.items)
            progress.update(task, total=sync.listings, completed=sync.read, brought=brought)

        yield listener


def tell_synced(synced: Synced) -> None:
    """Say what a sync brought, and what it could not see."""
    for warning in synced.warnings:
        say(f"warning: {warning}")
    for gap in synced.gaps:
        say(f"not seen: {gap}")
    say(
        f"{count(synced.listings, 'listing')} read and {synced.unchanged:,} unchanged, in "
        f"{count(synced.requests, 'request')}: {count(synced.conversations, 'conversation')}, "
        f"{count(synced.items, 'new item')}, {count(synced.responses, 'response')}"
    )


def _waiting(loading: Loading) -> str:
    return f"{loading.day} is being loaded by another run: waiting until that is done"


def _line(loading: Loading) -> None:
    if loading.waiting:
        say(_waiting(loading))
    if loading.published:
        rows = loading.published.rows
        became = "published" if loading.published.changed else "unchanged"
        print(
            f"{loading.day} {became}: {count(rows['raw_usage'], 'row')} served, "
            f"{rows['usage_1m']:,} by minute, {rows['usage_1h']:,} by hour, "
            f"{rows['usage_1d']:,} by day",
            file=sys.stderr,
            flush=True,
        )


def short(path: Path) -> str:
    """The path as one would type it from the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
