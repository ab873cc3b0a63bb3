"""A year of days committed to a shared lake one by one: do later commits take longer?

All tables that a load and a sync make, of small days, so what is measured is the commit: files put
into the warehouse, entries and metadata written, and the catalog's transaction. Then what a new
worker and `verify` take, and the same year in commits of a week.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from tests.benchmarks.report import Target
from tests.synced import Reader

DAYS: Final = [date(2024, 1, 1) + timedelta(days=number) for number in range(360)]
COMPARED: Final = 30
"""Commits at each end whose medians are compared."""
MOST_SLOWER: Final = 2.0
WEEK: Final = 7


@dataclass(frozen=True)
class SharedReport:
    """The outcome. Seconds."""

    place: str
    commits: Sequence[float]
    others: Sequence[tuple[str, float]]

    @property
    def ends(self) -> tuple[float, float]:
        """Medians of the first and of the last commits."""
        first, last = self.commits[:COMPARED], self.commits[-COMPARED:]
        return statistics.median(first), statistics.median(last)

    @property
    def ratio(self) -> float:
        """How much longer the last commits take than the first."""
        first, last = self.ends
        return last / first

    def markdown(self) -> str:
        """The table and the lines below it, to be pasted into docs/benchmarks.md as they are."""
        first, last = self.ends
        promise = f"the last {COMPARED} within {MOST_SLOWER:g}x of the first {COMPARED}"
        lines = [
            f"### {len(self.commits)} days committed one by one to a shared lake",
            "",
            "| what is measured | s |",
            "| --- | ---: |",
            f"| a commit of a day, median of the first {COMPARED} | {first:.2f} |",
            f"| a commit of a day, median of the last {COMPARED} | {last:.2f} |",
            *(f"| {name} | {seconds:.2f} |" for name, seconds in self.others),
            "",
            Target(promise, f"{self.ratio:.2f}x", self.ratio <= MOST_SLOWER).line(),
            "",
            f"{self.place}; all tables of a load and a sync, of small days, all within an hour.",
        ]
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, object]:
        """The same as plain values."""
        return {"seconds": list(self.commits), "ratio": self.ratio, **dict(self.others)}


def run(rounds: int) -> SharedReport:
    """On SQLite and a folder. There is one round: `rounds` changes nothing."""
    del rounds
    with tempfile.TemporaryDirectory(prefix="mka1-shared-") as name:
        folder = Path(name)
        return measured(Place(f"sqlite:///{folder}/catalog.db", f"{folder}/warehouse"), folder)


def measured(place: Place, folder: Path) -> SharedReport:
    """Load a year into a home in `folder`, and commit it to an empty shared lake day by day."""
    lake = Lake(folder / "home" / "lake")
    print(f"  loading {len(DAYS)} days", file=sys.stderr, flush=True)
    world = synthetic_world(days=len(DAYS), users=3, conversations_per_user_day=2)
    with EmulatorServer(world) as server:
        reader = Reader(server, lake, DAYS)
        reader.load()
        reader.sync()
    shared = open_shared_lake(place)
    print(f"  committing {len(DAYS)} days", file=sys.stderr, flush=True)
    commits = [timed(lambda day=day: shared.commit(lake, [day])) for day in DAYS]  # type: ignore[misc]
    other = Lake(folder / "other" / "lake")
    others = [
        ("a new worker hydrates all", timed(lambda: shared.hydrate(other))),
        ("it hydrates again, nothing has changed", timed(lambda: shared.hydrate(other))),
        ("verify reads every file", timed(lambda: list(shared.verify()))),
        ("expire, nothing is old", timed(lambda: shared.expire(time.time()))),
    ]
    kind = place.catalog.partition(":")[0]
    return SharedReport(f"{kind}, {place.warehouse.partition(':')[0]}", commits, others)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began
