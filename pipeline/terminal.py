"""What a person at a terminal sees while days are being loaded.

Belongs here: a progress bar on a terminal, plain log lines elsewhere, paths as one would type them.
Does not belong here: results, which go to stdout from the commands themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.loading import Progress as Loading


@contextmanager
def showing(console: Console, first: date, last: date) -> Iterator[Callable[[Loading], None]]:
    """A listener that draws a bar on a terminal and writes plain lines elsewhere."""
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
        days = (last - first).days + 1
        task = progress.add_task(f"{first} to {last}", total=days, rows=0)
        rows: dict[date, int] = {}

        def listener(loading: Loading) -> None:
            rows[loading.day] = loading.rows
            done = 1 if loading.published else 0
            progress.update(task, advance=done, rows=sum(rows.values()))

        yield listener


def _line(loading: Loading) -> None:
    if loading.published:
        rows = loading.published.rows
        changed = "changed" if loading.published.changed else "as it was"
        print(
            f"{loading.day} published, {changed}: {rows['raw_usage']:,} rows served, "
            f"{rows['usage_1m']:,} by minute, {rows['usage_1h']:,} by hour, "
            f"{rows['usage_1d']:,} by day",
            file=sys.stderr,
            flush=True,
        )


def short(path: Path) -> str:
    """The path as one would type it from the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
