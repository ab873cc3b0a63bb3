"""Usage by the hour as a test tells it, as tables or as a lake.

Belongs here: who used how much when, and which hours are loaded.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import commit, engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.schemas import COVERAGE, USAGE
from pipeline.lake.store import Lake
from pipeline.settings import load_settings
from pipeline.thresholds import Thresholds
from pipeline.timeline import DAY, SECONDS, Width, Window, day_of, day_window, floor_to
from tests.lake.served import copy_day, write_rows
from tests.truth import MEASURES

HOUR: Final = SECONDS["1h"]
FIRST: Final = date(2024, 1, 1)
START: Final = day_window(FIRST).start

Counts = tuple[int | None, int | None, int | None]
"""Conversations, items, operations."""


def thresholds(**changed: float) -> Thresholds:
    """The defaults of the settings, but for those that are `changed` (by the setting's field)."""
    return load_settings(**changed).thresholds


@dataclass
class History:
    """`days` loaded days from FIRST on, but for the hours in `unknown` (Unix seconds)."""

    days: int = 29
    unknown: set[int] = field(default_factory=set[int])
    counts: dict[tuple[int, str | None, str | None], Counts] = field(
        default_factory=dict[tuple[int, str | None, str | None], Counts]
    )

    @property
    def end(self) -> int:
        """The end of the last day."""
        return START + self.days * DAY

    def use(
        self,
        hour: int,
        operations: int | None,
        user: str | None = "u",
        key: str | None = "k",
        items: int | None = 0,
        conversations: int | None = 0,
    ) -> None:
        """Usage in the hour that starts at `hour`; 0 and no row are the same to the reader."""
        self.counts[hour, user, key] = (conversations, items, operations)

    def daily(
        self,
        operations: int,
        hours: Iterable[int] = range(24),
        user: str | None = "u",
        key: str | None = "k",
    ) -> None:
        """The same usage in these hours of every day."""
        wanted = set(hours)
        for hour in range(START, self.end, HOUR):
            if (hour - START) // HOUR % 24 in wanted:
                self.use(hour, operations, user, key)

    @contextmanager
    def tables(self, width: Width = "1h") -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the views `counted`, of that width, and `coverage`."""
        hours = [hour for hour in range(START, self.end, HOUR) if hour not in self.unknown]
        coverage = [
            {
                "dataset": "usage_1h",
                "start_time": hour * 1_000_000,
                "end_time": (hour + HOUR) * 1_000_000,
                "status": "provisional",
                "complete_through": (hour + HOUR) * 1_000_000,
            }
            for hour in hours
        ]
        rows = [
            {
                name: value * 1_000_000
                if name.endswith("_time") and isinstance(value, int)
                else value
                for name, value in row.items()
            }
            for row in self.rows(width)
        ]
        with closing(engine.connect(threads=1)) as con:
            con.register("counted", pa.Table.from_pylist(rows, schema=USAGE[width].schema))
            con.register("coverage", pa.Table.from_pylist(coverage, schema=COVERAGE.schema))
            yield con

    def rows(self, width: Width) -> list[dict[str, int | str | None]]:
        """The rows of a usage table; times are Unix seconds."""
        sums: dict[tuple[int, str | None, str | None], list[int | None]] = {}
        for (hour, user, key), counts in self.counts.items():
            of_bucket = sums.setdefault((floor_to(hour, width), user, key), [None] * 3)
            for place, count in enumerate(counts):
                if count is not None:
                    of_bucket[place] = (of_bucket[place] or 0) + count
        ordered = sorted(sums, key=lambda one: (one[0], one[1] or "", one[2] or ""))
        return [
            {
                "start_time": bucket,
                "end_time": bucket + SECONDS[width],
                "user_id": user,
                "api_key_id": key,
                **dict(zip(MEASURES, sums[bucket, user, key], strict=True)),
            }
            for bucket, user, key in ordered
        ]

    def publish(
        self,
        home: Path,
        through: int | None = None,
        left_out: Counter[int] | None = None,
        *,
        catalog: bool = True,
    ) -> Lake:
        """A home folder with these days, loaded up to `through`, but for days by number.

        A day that another lake of the test has with the same rows is copied from there.
        """
        lake = Lake(home / "lake")
        tables = {width: _by_day(self.rows(width)) for width in ("1h", "1d")}
        through = self.end if through is None else through
        with closing(engine.connect(threads=1)) as con:
            for number in range(self.days):
                day = FIRST + timedelta(days=number)
                whole = day_window(day)
                if whole.start >= through or (left_out and left_out[number]):
                    continue
                window = Window(whole.start, min(whole.end, through))
                rows = {f"usage_{width}": of_day[day] for width, of_day in tables.items()}
                _publish(con, lake, day, window, rows)
        if catalog:
            build_catalog(lake, home / "usage.duckdb")
        return lake


Rows = list[dict[str, int | str | None]]


def _by_day(rows: Rows) -> Mapping[date, Rows]:
    found: dict[date, Rows] = defaultdict(list)
    for row in rows:
        found[day_of(int(row["start_time"] or 0))].append(row)
    return found


_DAYS: Final = Path(tempfile.mkdtemp(prefix="days-"))
"""Lakes of one day each: what was published once is copied from there."""

atexit.register(shutil.rmtree, _DAYS, ignore_errors=True)


def _publish(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    day: date,
    window: Window,
    tables: Mapping[str, Rows],
) -> None:
    known = hashlib.sha256(repr((day, window, tables)).encode()).hexdigest()
    kept = Lake(_DAYS / known)
    if lake.version(day) is None and kept.root.exists():
        copy_day(kept, lake, day)
        return
    new = lake.version(day) is None
    with lake.staging() as folder:
        staged = {
            name: write_rows(name, folder / f"{name}.parquet", rows, window)
            for name, rows in tables.items()
        }
        commit.publish(con, lake, day, staged, {"usage": window.end + 30.0 * DAY})
    if new:
        copy_day(lake, kept, day)
