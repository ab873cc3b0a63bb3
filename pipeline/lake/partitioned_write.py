"""Rows of many days as one file a day: an ordered stream of rows, cut at midnight, UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.files import write
from pipeline.lake.schemas import Dataset
from pipeline.timeline import DAY, Window, day_of, day_window

_MICROS: Final = DAY * 1_000_000


def days_in(moments: pa.ChunkedArray) -> list[date]:
    """The UTC days of a column of timestamps (microseconds), in order."""
    return [day_of(number * DAY) for number in sorted(pc.unique(_numbers(moments)).to_pylist())]


def write_days(
    dataset: Dataset,
    batches: Iterable[pa.RecordBatch],
    column: str,
    folder: Path,
    *,
    window: Callable[[date], Window] = day_window,
    also: Iterable[date] = (),
    notes: Mapping[date, Mapping[str, Sequence[str]]] | None = None,
) -> dict[date, Path]:
    """Write a file of the contract for each UTC day in `column`; returns the files by day.

    `column` has moments, or numbers of days since 1970. The rows must come day by day, each day's
    in the contract's order; of their columns those of the contract are kept. Each day in `also`
    gets a file, if need be one without rows. `notes` go into a day's footer.
    """
    files: dict[date, Path] = {}

    def write_day(day: date, rows: Iterable[pa.RecordBatch]) -> None:
        files[day] = folder / dataset.name / f"{day}.parquet"
        files[day].parent.mkdir(exist_ok=True)
        said = (notes or {}).get(day)
        write(dataset, rows, files[day], window(day), said)

    names = dataset.schema.names
    for number, pieces in groupby(_pieces(batches, column), key=itemgetter(0)):
        write_day(day_of(number * DAY), (piece.select(names) for _, piece in pieces))
    for day in set(also) - set(files):
        write_day(day, ())
    return dict(sorted(files.items()))


def _pieces(batches: Iterable[pa.RecordBatch], column: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batches, cut where the day changes, with the day's number since 1970."""
    for batch in batches:
        runs = pc.run_end_encode(_numbers(batch.column(column)))
        start = 0
        for number, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            yield number, batch.slice(start, end - start)
            start = end


def _numbers(moments: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Days since 1970. What is counted lies after 1970, so cutting is rounding down."""
    if pa.types.is_integer(moments.type):
        return moments
    return pc.divide(moments.cast(pa.int64()), pa.scalar(_MICROS, pa.int64()))
