"""Tables in windows of time: what is computed of one window after another fits into memory.

Belongs here: where to cut, by what the files' footers say, and views of what lies in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq

from pipeline.lake import engine
from pipeline.lake.schemas import Dataset
from pipeline.timeline import SECONDS

MOST_ROWS: Final = 2_000_000
"""Rows that are grouped at once: some 500 MB of memory."""
_TIME: Final = "start_time"
_MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _RowGroup:
    """Rows that stand together in a file, and between which times (microseconds), if it says so."""

    path: Path
    rows: int
    times: tuple[int, int] | None


def in_slices(
    con: duckdb.DuckDBPyConnection,
    inputs: Mapping[str, tuple[Dataset, Iterable[Path]]],
    seconds: int,
) -> Iterator[None]:
    """Make each input a view over its rows of a window of time, one window after another.

    The windows are whole buckets of `seconds`, and together all of time; where all inputs are
    small, there is one. A row lies in the window of its `start_time`, whatever file it is in.
    Raises what pyarrow raises for a file whose footer can't be read.
    """
    listed = {name: (dataset, [*files]) for name, (dataset, files) in inputs.items()}
    metadata = {path: pq.read_metadata(path) for _, paths in listed.values() for path in paths}
    if sum(footer.num_rows for footer in metadata.values()) <= MOST_ROWS:
        engine.bind(con, listed)
        yield
        return
    groups = [group for path, footer in metadata.items() for group in _row_groups(path, footer)]
    edges = [None, *_cuts(groups, max(seconds, SECONDS["1h"]) * _MICRO), None]
    for start, end in pairwise(edges):
        there = {group.path for group in groups if _overlaps(group, start, end)}
        for name, (dataset, paths) in listed.items():
            rows = engine.scan(dataset, [path for path in paths if path in there])
            con.execute(
                f'CREATE OR REPLACE TEMP VIEW "{name}" AS FROM ({rows}) WHERE {_within(start, end)}'
            )
        yield


def _row_groups(path: Path, footer: pq.FileMetaData) -> Iterator[_RowGroup]:
    column = footer.schema.names.index(_TIME)
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        found = group.column(column).statistics
        times = (found.min_raw, found.max_raw) if found is not None and found.has_min_max else None
        yield _RowGroup(path, group.num_rows, times)


def _cuts(groups: Iterable[_RowGroup], step: int) -> list[int]:
    """Where to cut, in microseconds: at multiples of `step`, each slice below MOST_ROWS if it can
    be."""
    rows: Counter[int] = Counter()
    for group in groups:
        if group.times is not None:
            rows[group.times[0] // step] += group.rows
    cuts: list[int] = []
    held = 0
    for number, count in sorted(rows.items()):
        if held and held + count > MOST_ROWS:
            cuts.append(number * step)
            held = 0
        held += count
    return cuts


def _overlaps(group: _RowGroup, start: int | None, end: int | None) -> bool:
    if group.times is None:
        return True
    first, last = group.times
    return (start is None or last >= start) and (end is None or first < end)


def _within(start: int | None, end: int | None) -> str:
    """A condition on the times of rows."""
    bounds = [(">=", start), ("<", end)]
    tests = [f"{_TIME} {sign} make_timestamptz({at})" for sign, at in bounds if at is not None]
    return " AND ".join(tests) or "true"
