"""What a load reads of each day: one usage endpoint's pages, what becomes of them, their totals.

Belongs here: what differs between endpoints, for the load, the totals check and the refresh, and
how the endpoint of conversations does it. `meters` has all others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import date
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Final, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.api import Client, PageSize, UsageQuery, usage_of_days, usage_pages
from pipeline.api.usage import Result, UsagePage
from pipeline.endpoints import GroupBy
from pipeline.lake import engine
from pipeline.lake.commit import confirm
from pipeline.lake.files import covered
from pipeline.lake.manifest import days_to_reload
from pipeline.lake.schemas import MEASURES, RAW_USAGE, USAGE, Dataset
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import Width, Window
from pipeline.usage.page_buffer import SERVED_ROWS, PageBuffer
from pipeline.usage.rollup import DayPublished, Staged, publish_staged, stage_day

Totals = dict[str, int]
"""By measure; one that is zero is left out."""
ByBucket = dict[int, Totals]
"""Totals by the bucket's start, Unix seconds; a bucket without any may be left out."""
Group = tuple[str | None, ...]
Counts = dict[Group, Totals]
"""Totals by group; a group without any is left out."""


class ServedBucket(Protocol):
    """A bucket of any endpoint, as served."""

    @property
    def start_time(self) -> int: ...
    @property
    def end_time(self) -> int: ...
    @property
    def results(self) -> Sequence[Any]: ...


class ServedPage(Protocol):
    """A page of any endpoint, as served."""

    @property
    def buckets(self) -> Sequence[ServedBucket]: ...


class Feed(Protocol):
    """One usage endpoint: how it is asked, and where what it says goes."""

    @property
    def endpoint(self) -> str:
        """Its name; empty for that of conversations."""
        ...

    @property
    def raw(self) -> Dataset:
        """The dataset of its rows as served."""
        ...

    @property
    def tables(self) -> Mapping[Width, Dataset]:
        """The datasets of its buckets."""
        ...

    @property
    def served_rows(self) -> pa.Schema:
        """The columns of rows as served, while a day is being read."""
        ...

    def pages(
        self, client: Client, window: Window, width: Width, size: PageSize, *, grouped: bool
    ) -> AsyncIterator[ServedPage]:
        """Every page of a window, checked; `grouped` by all that is landed, or not at all."""
        ...

    def of_days(self, client: Client, days: Iterable[date]) -> AsyncIterator[ServedBucket]:
        """The grouped 1d buckets of days, in order, in narrower ones where one is too big."""
        ...

    def rows(
        self, page: Any, first_serving: int, fetched_at: float, pseudonyms: Pseudonyms | None
    ) -> pa.Table:
        """A page's rows as `served_rows`; its buckets' servings are numbered from the first."""
        ...

    def group(self, result: Any, pseudonyms: Pseudonyms | None) -> Group:
        """Whose a result is."""
        ...

    def measures(self, result: Any) -> Mapping[str, int | None]:
        """What a result counts."""
        ...

    def stage(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        day: date,
        buffer: PageBuffer,
        folder: Path,
    ) -> Staged:
        """Roll up a day that was read whole, in a folder for unfinished files."""
        ...

    def publish(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        staged: Staged,
        folder: Path,
        *,
        disputed: bool,
    ) -> DayPublished:
        """Publish what was staged."""
        ...

    def totals(
        self, con: duckdb.DuckDBPyConnection, width: Width, files: Sequence[Path]
    ) -> ByBucket:
        """What files of one of its tables say of each bucket."""
        ...

    def counts(self, path: Path) -> Counts:
        """What a file of its table of days says of each group."""
        ...

    def loaded(self, lake: Lake, day: date) -> Window | None:
        """The part of a day that is loaded."""
        ...

    def to_reload(self, lake: Lake, now: float) -> list[date]:
        """The days that need another load at `now`, those read longest ago first."""
        ...

    def confirm(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, day: date, version: Path, at: float
    ) -> bool:
        """Note that a day that was read early is still the same; whether there was to note."""
        ...


class _Conversations:
    """Endpoint 1: usage/conversations."""

    endpoint: Final = ""
    raw: Final = RAW_USAGE
    tables: Final[Mapping[Width, Dataset]] = USAGE
    served_rows: Final = SERVED_ROWS

    def pages(
        self, client: Client, window: Window, width: Width, size: PageSize, *, grouped: bool
    ) -> AsyncIterator[UsagePage]:
        groups: Sequence[GroupBy] = ("user_id", "api_key_id") if grouped else ()
        return usage_pages(
            client, UsageQuery(window.start, window.end, width, group_by=groups), size
        )

    def of_days(self, client: Client, days: Iterable[date]) -> AsyncIterator[ServedBucket]:
        return usage_of_days(client, days)

    def rows(
        self, page: UsagePage, first_serving: int, fetched_at: float, pseudonyms: Pseudonyms | None
    ) -> pa.Table:
        """With `pseudonyms` those are the user ids, and extra fields, which may name people, are
        NULL."""
        results = list(chain.from_iterable(bucket.results for bucket in page.buckets))
        place, times = placed(page, [len(bucket.results) for bucket in page.buckets])
        fetched = pa.scalar(int(fetched_at * 1_000_000), pa.int64())
        user_ids = [result.user_id for result in results]
        return pa.table(
            [
                *times,
                pa.array(map(pseudonyms.of, user_ids) if pseudonyms else user_ids, pa.string()),
                pa.array([result.api_key_id for result in results], pa.string()),
                pa.array([result.num_conversations_created for result in results], pa.int64()),
                pa.array([result.num_items_added for result in results], pa.int64()),
                pa.array([result.num_operations for result in results], pa.int64()),
                pa.nulls(len(results), pa.string())
                if page.extras is None or pseudonyms
                else pa.array(page.extras, pa.string()),
                pa.repeat(fetched, len(results)).cast(MOMENT),
                pc.add(place, first_serving),
            ],
            schema=SERVED_ROWS,
        )

    def group(self, result: Result, pseudonyms: Pseudonyms | None) -> Group:
        user = pseudonyms.of(result.user_id) if pseudonyms else result.user_id
        return user, result.api_key_id

    def measures(self, result: Result) -> Mapping[str, int | None]:
        return {name: getattr(result, name) for name in MEASURES}

    def stage(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        day: date,
        buffer: PageBuffer,
        folder: Path,
    ) -> Staged:
        return stage_day(con, day, buffer.window, buffer, folder)

    def publish(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        staged: Staged,
        folder: Path,
        *,
        disputed: bool,
    ) -> DayPublished:
        return publish_staged(con, lake, staged, folder, disputed=disputed)

    def totals(
        self, con: duckdb.DuckDBPyConnection, width: Width, files: Sequence[Path]
    ) -> ByBucket:
        engine.bind(con, {"counted": (USAGE[width], files)})
        rows = con.sql(engine.sql("bucket_totals")).fetchall()
        return {start: counted(zip(MEASURES, counts, strict=True)) for start, *counts in rows}

    def counts(self, path: Path) -> Counts:
        found: Counts = {}
        columns = pq.ParquetFile(path).read(columns=["user_id", "api_key_id", *MEASURES]).columns
        for user, key, *counts in zip(*(column.to_pylist() for column in columns), strict=True):
            add(found, (user, key), dict(zip(MEASURES, counts, strict=True)))
        return found

    def loaded(self, lake: Lake, day: date) -> Window | None:
        path = lake.file(USAGE["1d"].name, day)
        return None if path is None else covered(path).window

    def to_reload(self, lake: Lake, now: float) -> list[date]:
        return days_to_reload(lake, now)

    def confirm(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, day: date, version: Path, at: float
    ) -> bool:
        return confirm(con, lake, day, version, "usage", at)


CONVERSATIONS: Final[Feed] = _Conversations()
MOMENT: Final = SERVED_ROWS.field("start_time").type


def placed(page: ServedPage, rows: Sequence[int]) -> tuple[pa.Array, tuple[pa.Array, pa.Array]]:
    """Of a page with so many rows in each bucket: which bucket each is of, and its two times."""
    ends_at = accumulate(rows, initial=0)
    of_bucket = pa.ListArray.from_arrays(pa.array(ends_at, pa.int32()), pa.nulls(sum(rows)))
    place = pc.list_parent_indices(of_bucket)
    starts = pa.array([bucket.start_time * 1_000_000 for bucket in page.buckets], pa.int64())
    ends = pa.array([bucket.end_time * 1_000_000 for bucket in page.buckets], pa.int64())
    return place, (starts.take(place).cast(MOMENT), ends.take(place).cast(MOMENT))


def counted(measures: Iterable[tuple[str, int | None]]) -> Totals:
    """Those that are not zero: an API may leave out what is."""
    return {name: value for name, value in measures if value}


def add(counts: Counts, group: Group, measures: Mapping[str, int | None]) -> None:
    """Add what a row says to what its group has."""
    if more := counted(measures.items()):
        totals = counts.setdefault(group, {})
        for name, value in more.items():
            totals[name] = totals.get(name, 0) + value
