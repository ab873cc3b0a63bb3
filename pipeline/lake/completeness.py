"""Up to when is usage complete, and which days are disputed? One answer for all who say so.

Usage is complete through the first hole after the first day that is loaded: an hour that is not
loaded, or loaded in part, or of a disputed day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake import engine
from pipeline.lake.schemas import COVERAGE, USAGE
from pipeline.lake.snapshot import Snapshot
from pipeline.timeline import Window

DISPUTED: Final = "disputed"
"""The status of hours that are loaded, but of a day whose totals differ from the API's own."""
_DATASET: Final = USAGE["1d"].name


@dataclass(frozen=True, slots=True)
class Completeness:
    """The stretches of time of which everything is loaded, in order."""

    spans: tuple[Window, ...]

    @property
    def through(self) -> int | None:
        """Before this (Unix seconds), and from the first day that is loaded, nothing is missing.

        None where nothing is loaded.
        """
        return self.spans[0].end if self.spans else None

    @property
    def loaded_through(self) -> int | None:
        """The end of the last stretch, whatever is missing before it; None where there is none."""
        return self.spans[-1].end if self.spans else None

    @property
    def holes(self) -> list[Window]:
        """What is missing between the stretches."""
        return [Window(before.end, after.start) for before, after in pairwise(self.spans)]


def of_coverage(con: duckdb.DuckDBPyConnection, dataset: str = _DATASET) -> Completeness:
    """How far usage, or another table, is loaded: `con` has the view `coverage`."""
    rows = con.execute(engine.sql("loaded_spans"), {"dataset": dataset}).fetchall()
    spans = [Window(start, end) for start, end in rows]
    return Completeness((*spans[:1], *(span for span in spans[1:] if span.start < span.end)))


def disputed_days(snapshot: Snapshot, days: Iterable[date]) -> list[date]:
    """Those of `days` whose totals differ from the API's own."""
    found = [(day, snapshot.file(COVERAGE.name, day)) for day in days]
    return [day for day, path in found if path is not None and is_disputed(path)]


def is_disputed(coverage: Path) -> bool:
    """Whether the day of a coverage file is disputed; each file is read once."""
    found = coverage.stat()
    return _is_disputed(coverage, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=8_192)
def _is_disputed(coverage: Path, _inode: int, _changed: int) -> bool:
    """A file of a version never changes; a lake that was begun anew has others by their names."""
    table = pq.ParquetFile(coverage).read(columns=["dataset", "status"])
    of_usage = pc.equal(table.column("dataset"), _DATASET)
    return DISPUTED in table.column("status").filter(of_usage).unique().to_pylist()
