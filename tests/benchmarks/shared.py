"""A year of days committed to a shared lake one by one: do later commits take longer?

All tables that a load and a sync make, of small days, so what is measured is the commit: files put
into the warehouse, entries and metadata written, and the catalog's transaction. Then what a new
worker, `verify` and `expire` take.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from tests.benchmarks.report import Target
from tests.synced import Reader

DAYS: Final = [date(2024, 1, 1) + timedelta(days=number) for number in range(360)]
COMPARED: Final = 30
"""Commits at each end whose medians are compared."""
MOST_SLOWER: Final = 2.0


class Taken(NamedTuple):
    """Seconds by the clock, and seconds of this process's processors."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class SharedReport:
    """The outcome."""

    place: str
    commits: Sequence[Taken]
    others: Sequence[tuple[str, Taken]]

    @property
    def ends(self) -> tuple[Taken, Taken]:
        """Medians of the first and of the last commits."""
        return middle(self.commits[:COMPARED]), middle(self.commits[-COMPARED:])

    @property
    def ratio(self) -> float:
        """How much more the last commits take of a processor than the first: by the clock, other
        programs would have a say."""
        first, last = self.ends
        return last.processor / first.processor

    def markdown(self) -> str:
        """The table and the lines below it, to be pasted into docs/benchmarks.md as they are."""
        first, last = self.ends
        rows = [
            (f"a commit of a day, median of the first {COMPARED}", first),
            (f"a commit of a day, median of the last {COMPARED}", last),
            *self.others,
        ]
        promise = f"the last {COMPARED} within {MOST_SLOWER:g}x of the first {COMPARED}"
        lines = [
            f"### {len(self.commits)} days committed one by one to a shared lake",
            "",
            "| what is measured | s | of a processor, s |",
            "| --- | ---: | ---: |",
            *(f"| {name} | {of.seconds:.2f} | {of.processor:.2f} |" for name, of in rows),
            "",
            Target(promise, f"{self.ratio:.2f}x", self.ratio <= MOST_SLOWER).line(),
            "",
            f"{self.place}; all tables of a load and a sync, of small days, all within an hour.",
        ]
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, object]:
        """The same as plain values."""
        return {"commits": list(self.commits), "ratio": self.ratio, **dict(self.others)}


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
    commits = [timed(partial(shared.commit, lake, [day])) for day in DAYS]
    other = Lake(folder / "other" / "lake")
    others = [
        ("a new worker hydrates all days", timed(lambda: shared.hydrate(other))),
        ("it hydrates again, nothing has changed", timed(lambda: shared.hydrate(other))),
        ("verify reads every file", timed(lambda: list(shared.verify()))),
        ("expire, nothing is old", timed(lambda: shared.expire(time.time()))),
    ]
    kinds = [place.catalog.partition(":")[0], "S3" if "://" in place.warehouse else "a folder"]
    return SharedReport(", ".join(kinds), commits, others)


def middle(taken: Sequence[Taken]) -> Taken:
    """Medians."""
    clock, processor = zip(*taken, strict=True)
    return Taken(statistics.median(clock), statistics.median(processor))


def timed(work: Callable[[], object]) -> Taken:
    """What it took."""
    began, used = time.monotonic(), time.process_time()
    work()
    return Taken(time.monotonic() - began, time.process_time() - used)
