"""Tables in windows of time: what is computed of one window after another fits into memory.

Belongs here: where to cut, by what the files' footers say, and views of what lies in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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


Times = tuple[int, int]
"""The first and the last, in microseconds."""


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
    paths = [path for _, files in listed.values() for path in files]
    if sum(pq.read_metadata(path).num_rows for path in paths) <= MOST_ROWS:
        engine.bind(con, listed)
        yield
        return
    step = max(seconds, SECONDS["1h"]) * _MICRO
    rows: Counter[int] = Counter()
    times = {path: _surveyed(path, step, rows) for path in paths}
    for start, end in pairwise([None, *_cuts(rows, step), None]):
        for name, (dataset, files) in listed.items():
            there = engine.scan(dataset, [it for it in files if _overlaps(times[it], start, end)])
            con.execute(
                f'CREATE OR REPLACE TEMP VIEW "{name}" AS FROM ({there}) '
                f"WHERE {engine.within(*(at and at // _MICRO for at in (start, end)))}"
            )
        yield


def _surveyed(path: Path, step: int, rows: Counter[int]) -> Times | None:
    """Between which times the rows of a file lie, None where its footer does not say it.

    Adds how many rows begin in each stretch of `step` microseconds, row group by row group.
    """
    footer = pq.read_metadata(path)
    column = footer.schema.names.index(_TIME)
    bounds: list[int] = []
    known = True
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        found = group.column(column).statistics
        if found is None or not found.has_min_max:
            known = False
            continue
        rows[found.min_raw // step] += group.num_rows
        bounds += (found.min_raw, found.max_raw)
    return (min(bounds), max(bounds)) if known and bounds else None


def _cuts(rows: Counter[int], step: int) -> list[int]:
    """Where to cut, in microseconds: at multiples of `step`, each slice below MOST_ROWS if it can
    be."""
    cuts: list[int] = []
    held = 0
    for number, count in sorted(rows.items()):
        if held and held + count > MOST_ROWS:
            cuts.append(number * step)
            held = 0
        held += count
    return cuts


def _overlaps(times: Times | None, start: int | None, end: int | None) -> bool:
    return times is None or (
        (start is None or times[1] >= start) and (end is None or times[0] < end)
    )
