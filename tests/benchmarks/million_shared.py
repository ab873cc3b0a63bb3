"""Days of very many users through a shared lake: time, peak memory and bytes of each command.

The same platform as `million`, each command in a process of its own. Homes begin empty, as a
worker's does on a machine that was just started. The shared lake is in SQLite and a folder, so what
a network would add is not measured: the bytes say how much it would have to carry.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

from tests.benchmarks.million import FIRST_DAY, Line, MillionReport, command, settings
from tests.benchmarks.server import serving


def run(users: int) -> MillionReport:
    """Load, push, pull and load again, one command after the other."""
    lines: list[Line] = []
    with (
        tempfile.TemporaryDirectory(prefix="mka1-million-") as folder,
        serving("tests.benchmarks.million_server", "--users", str(users)) as platform,
    ):
        for line in _measured(Path(folder), platform.url):
            lines.append(line)
            print(f"  {line.markdown()}", file=sys.stderr, flush=True)
        rows = platform.rows
    note = (
        f"{rows:,} rows of 1m a day; each command once, in a process of its own, SQLite and a "
        "folder. On disk: the home after the first and the pulls, the warehouse after all others."
    )
    return MillionReport(f"{users:,} users, through a shared lake", lines, note)


def _measured(folder: Path, url: str) -> Iterator[Line]:
    """What is measured, in order."""
    warehouse = folder / "warehouse"
    shared = {
        "MKA1_USAGE_CATALOG": f"sqlite:///{folder}/catalog.db",
        "MKA1_USAGE_WAREHOUSE": str(warehouse),
    }

    def home(name: str) -> dict[str, str]:
        return {**settings(folder / name, url), **shared}

    next_day, end = FIRST_DAY + timedelta(days=1), FIRST_DAY + timedelta(days=2)
    first = ("run", "--usage-only", "--start", f"{FIRST_DAY}", "--end", f"{next_day}")
    second = ("run", "--usage-only", "--start", f"{next_day}", "--end", f"{end}")
    alone, copy = folder / "alone", folder / "copy"
    yield command("run", "a day, no shared lake", first, settings(alone, url), alone)
    in_warehouse = partial(command, home=warehouse)
    yield in_warehouse("push", "the same day: commit", ("push",), home("alone"))
    yield in_warehouse("run", "the next day, a new worker: load and commit", second, home("worker"))
    words = "the first day again, a new worker: hydrate, load, nothing to commit"
    yield in_warehouse("run", words, first, home("other-worker"))
    yield command("pull", "both days into an empty home: hydrate", ("pull",), home("copy"), copy)
    yield command("pull", "again, nothing has changed", ("pull",), home("copy"), copy)
    yield in_warehouse(
        "verify", "every file of the worker and of the shared lake", ("verify",), home("worker")
    )
    yield in_warehouse("expire", "nothing is old", ("expire",), home("worker"))
