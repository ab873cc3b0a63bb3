"""Progress of a run on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.messages import by_width, count, noun
from pipeline.terminal import say

if TYPE_CHECKING:
    from pipeline.conversations.sync import Synced, SyncProgress
    from pipeline.usage.load import Progress as Loading


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
        shown = ""

        def listener(loading: Loading) -> None:
            nonlocal shown
            if loading.endpoint != shown:  # one endpoint after the other
                shown = loading.endpoint
                rows.clear()
                progress.reset(task, total=days, description=f"{shown} of {title}".strip())
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


def report_synced(synced: Synced) -> None:
    """Say what a sync brought, and what it could not see."""
    for warning in synced.warnings:
        say(f"warning: {warning}")
    for gap in synced.gaps:
        say(f"not seen: {gap}")
    say(summary(synced))


def summary(synced: Synced) -> str:
    """What a sync read, in one line."""
    return (
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
        table = "meters" if loading.endpoint else "usage"
        became = "published" if loading.published.changed else "unchanged"
        print(
            f"{loading.day} {loading.endpoint}".rstrip()
            + f" {became}: {count(loading.rows, 'row')} served, "
            + by_width(rows, table),
            file=sys.stderr,
            flush=True,
        )
