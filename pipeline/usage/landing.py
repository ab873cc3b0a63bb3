"""Landing: the rows of a day as raw_usage has them, in order, in tables that fit in memory.

Belongs here: which serving of a bucket counts, the order of rows, and cutting a day so that memory
has a bound. A day of at most HELD rows is one table; of a larger one, each hour is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake.files import covered
from pipeline.lake.schemas import RAW_USAGE
from pipeline.timeline import SECONDS, Window
from pipeline.usage.page_buffer import PageBuffer

HELD: Final = 1_000_000
"""Rows that are sorted at once: about 100 MB."""

_NAMES: Final = RAW_USAGE.schema.names
_MOMENT: Final = RAW_USAGE.schema.field("start_time").type
_MICROS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Landed:
    """Rows of raw_usage of whole hours, in order. `distinct`: a minute, user and key has one row at
    most."""

    rows: pa.Table
    distinct: bool


def landed(buffer: PageBuffer) -> Iterator[Landed]:
    """What was served of a day, each bucket in its latest serving: whole, even without rows."""
    servings, latest = buffer.servings(), None
    if pc.count_distinct(servings.column("start_time")).as_py() < servings.num_rows:
        latest = servings.group_by("start_time").aggregate([("serving", "max")])
    for span in _spans(buffer.window, buffer.rows):
        yield _of_span(buffer, span, latest)


def _of_span(buffer: PageBuffer, span: Window, latest: pa.Table | None) -> Landed:
    """The rows of a span; `latest` has each bucket's last serving, if one came twice.

    What is mapped of the buffer is given back on return.
    """
    served = buffer.served_rows(span)
    if span != buffer.window:  # chunks reach beyond the hour
        served = served.filter(_within(span))
    if latest is not None:
        place = pc.index_in(served.column("start_time"), latest.column("start_time"))
        last = latest.column("serving_max").take(place)
        served = served.filter(pc.equal(served.column("serving"), last))
    return _in_order(served.select(_NAMES))


def stored(path: Path) -> Iterator[Landed]:
    """What a file of raw_usage says."""
    known = covered(path)
    for span in _spans(known.window, known.rows):
        yield _in_order(pq.read_table(path, partitioning=None, filters=_within(span)))


def _spans(window: Window, rows: int) -> Iterator[Window]:
    return window.cut(SECONDS["1d" if rows <= HELD else "1h"])


def _within(span: Window) -> pc.Expression:
    start, end = (pa.scalar(at * _MICROS, _MOMENT) for at in (span.start, span.end))
    return (pc.field("start_time") >= start) & (pc.field("start_time") < end)


def _in_order(rows: pa.Table) -> Landed:
    """Sorted by minute, user and key as one number; by all other columns where one comes twice.

    It takes a third of the time of a sort by columns of text.
    """
    if not rows.num_rows:
        return Landed(rows, distinct=True)
    key = _number(rows)
    order = pc.sort_indices(key)
    ranked = key.take(order)
    if not pc.any(pc.equal(ranked.slice(1), ranked.slice(0, len(ranked) - 1))).as_py():
        return Landed(rows.take(order), distinct=True)
    others = [(name, "ascending", "at_start") for name in _NAMES if name not in _NUMBERED]
    order = pc.sort_indices(
        rows.append_column("key", key), sort_keys=[("key", "ascending"), *others]
    )
    return Landed(rows.take(order), distinct=False)


_NUMBERED: Final = ("start_time", "end_time", "user_id", "api_key_id")


def _number(rows: pa.Table) -> pa.Array:
    """A number for the minute, user and key of each row, in the same order as those."""
    micros = rows.column("start_time").cast(pa.int64())
    minutes = pc.divide(pc.subtract(micros, pc.min(micros)), SECONDS["1m"] * _MICROS)
    number = minutes.combine_chunks()
    for name in ("user_id", "api_key_id"):
        ranks, values = _ranks(rows.column(name))
        number = pc.add(pc.multiply(number, values), ranks)
    return number


def _ranks(column: pa.ChunkedArray) -> tuple[pa.Array, int]:
    """A number for each value, in the same order, NULL lowest; and how many numbers there are."""
    coded = column.dictionary_encode().combine_chunks()
    values = coded.dictionary
    rank = pc.sort_indices(pc.sort_indices(values))  # a permutation and its inverse
    ranks = pc.add(rank.cast(pa.int64()), 1).take(coded.indices)
    return pc.fill_null(ranks, 0), len(values) + 1
