"""What a load reads of each day: one usage endpoint's pages, what becomes of them, their totals.

Belongs here: what differs between endpoints, for the load, the totals check and the refresh, and
how the endpoint of conversations does it. `meters` has all others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import accumulate, chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.api import Client, PageSize, UsageQuery, usage_pages
from pipeline.api.usage import Result, UsagePage
from pipeline.endpoints import GroupBy
from pipeline.lake import engine
from pipeline.lake.commit import publish
from pipeline.lake.files import covered
from pipeline.lake.manifest import days_to_reload
from pipeline.lake.schemas import MEASURES, RAW_USAGE, USAGE, Dataset
from pipeline.lake.store import Lake
from pipeline.pseudonyms import UserIds
from pipeline.timeline import Width, Window
from pipeline.usage.page_buffer import SERVED_ROWS, PageBuffer
from pipeline.usage.rollup import (
    DayPublished,
    Staged,
    publish_staged,
    published_day,
    stage_day,
)

Totals = dict[str, int]
"""By measure; one that is zero is left out."""
ByBucket = dict[int, Totals]
"""Totals by the bucket's start, Unix seconds; a bucket without any may be left out."""
Group = tuple[str | None, ...]
Counts = dict[Group, Totals]
"""Totals by group; a group without any is left out."""
CountsByBucket = dict[int, Counts]
"""By the bucket's start, Unix seconds; a bucket without any may be left out."""
Grouping = Literal["all", "key", "nothing"]
"""What an endpoint is asked to group by: all that is landed, the API key alone, or nothing."""
Proof = Literal["usage", "totals"]
"""What a day was found to be the same by: by all that is landed, or by its hours and keys."""


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
        self, client: Client, window: Window, width: Width, size: PageSize, by: Grouping
    ) -> AsyncIterator[ServedPage]:
        """Every page of a window, checked."""
        ...

    def rows(
        self, page: Any, first_serving: int, fetched_at: float, ids: UserIds | None
    ) -> pa.Table:
        """A page's rows as `served_rows`; its buckets' servings are numbered from the first."""
        ...

    def group(self, result: Any, ids: UserIds | None) -> Group:
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

    def key_totals(
        self, con: duckdb.DuckDBPyConnection, width: Width, path: Path
    ) -> CountsByBucket:
        """What a file of one of its tables says of each bucket, by key: groups of one."""
        ...

    def counts(self, path: Path) -> Iterator[tuple[int, Counts]]:
        """What a file of one of its tables says of each bucket, by all groups, in order."""
        ...

    def loaded(self, lake: Lake, day: date) -> Window | None:
        """The part of a day that is loaded."""
        ...

    def to_reload(self, lake: Lake, now: float) -> list[date]:
        """The days that need another load at `now`, those read longest ago first."""
        ...

    def confirm(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, day: date, at: float, by: Proof
    ) -> DayPublished:
        """Note that a day was still the same at a time (Unix seconds); with the day's lock."""
        ...


class _Conversations:
    """Endpoint 1: usage/conversations."""

    endpoint: Final = ""
    raw: Final = RAW_USAGE
    tables: Final[Mapping[Width, Dataset]] = USAGE
    served_rows: Final = SERVED_ROWS

    def pages(
        self, client: Client, window: Window, width: Width, size: PageSize, by: Grouping
    ) -> AsyncIterator[UsagePage]:
        groups = grouped(by, ("user_id", "api_key_id"))
        return usage_pages(
            client, UsageQuery(window.start, window.end, width, group_by=groups), size
        )

    def rows(
        self, page: UsagePage, first_serving: int, fetched_at: float, ids: UserIds | None
    ) -> pa.Table:
        """Users are called as `ids` say; extra fields of those whom they hide are NULL."""
        results = list(chain.from_iterable(bucket.results for bucket in page.buckets))
        place, times = placed(page, [len(bucket.results) for bucket in page.buckets])
        fetched = pa.scalar(int(fetched_at * 1_000_000), pa.int64())
        user_ids = [result.user_id for result in results]
        return pa.table(
            [
                *times,
                pa.array(map(ids.of, user_ids) if ids else user_ids, pa.string()),
                pa.array([result.api_key_id for result in results], pa.string()),
                pa.array([result.num_conversations_created for result in results], pa.int64()),
                pa.array([result.num_items_added for result in results], pa.int64()),
                pa.array([result.num_operations for result in results], pa.int64()),
                pa.nulls(len(results), pa.string())
                if page.extras is None
                else pa.array(_extras(page.extras, user_ids, ids), pa.string()),
                pa.repeat(fetched, len(results)).cast(MOMENT),
                pc.add(place, first_serving),
            ],
            schema=SERVED_ROWS,
        )

    def group(self, result: Result, ids: UserIds | None) -> Group:
        user = ids.of(result.user_id) if ids else result.user_id
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

    def key_totals(
        self, con: duckdb.DuckDBPyConnection, width: Width, path: Path
    ) -> CountsByBucket:
        engine.bind(con, {"counted": (USAGE[width], [path])})
        found: CountsByBucket = {}
        for start, key, *counts in con.sql(engine.sql("key_totals")).fetchall():
            add(found.setdefault(start, {}), (key,), dict(zip(MEASURES, counts, strict=True)))
        return found

    def counts(self, path: Path) -> Iterator[tuple[int, Counts]]:
        columns = ["start_time", "user_id", "api_key_id", *MEASURES]
        return by_bucket(
            (start, (user, key), dict(zip(MEASURES, counts, strict=True)))
            for start, user, key, *counts in rows_of(path, columns)
        )

    def loaded(self, lake: Lake, day: date) -> Window | None:
        path = lake.file(USAGE["1d"].name, day)
        return None if path is None else covered(path).window

    def to_reload(self, lake: Lake, now: float) -> list[date]:
        return days_to_reload(lake, now)

    def confirm(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, day: date, at: float, by: Proof
    ) -> DayPublished:
        publish(con, lake, day, {}, {by: at})
        return published_day(lake, day, covered(lake.path(USAGE["1d"].name, day)).window)


CONVERSATIONS: Final[Feed] = _Conversations()
MOMENT: Final = SERVED_ROWS.field("start_time").type


def _extras(
    extras: Sequence[str | None], user_ids: Sequence[str | None], ids: UserIds | None
) -> Sequence[str | None]:
    if ids is None:
        return extras
    pairs = zip(user_ids, extras, strict=True)
    return [None if extra is None or ids.hides(user, extra) else extra for user, extra in pairs]


def placed(page: ServedPage, rows: Sequence[int]) -> tuple[pa.Array, tuple[pa.Array, pa.Array]]:
    """Of a page with so many rows in each bucket: which bucket each is of, and its two times."""
    ends_at = accumulate(rows, initial=0)
    of_bucket = pa.ListArray.from_arrays(pa.array(ends_at, pa.int32()), pa.nulls(sum(rows)))
    place = pc.list_parent_indices(of_bucket)
    starts = pa.array([bucket.start_time * 1_000_000 for bucket in page.buckets], pa.int64())
    ends = pa.array([bucket.end_time * 1_000_000 for bucket in page.buckets], pa.int64())
    return place, (starts.take(place).cast(MOMENT), ends.take(place).cast(MOMENT))


def grouped(by: Grouping, landed: Sequence[GroupBy]) -> Sequence[GroupBy]:
    """What to ask to group by, where this is what is landed."""
    key: Sequence[GroupBy] = ("api_key_id",)
    return landed if by == "all" else key if by == "key" else ()


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a file, column by column as asked for; times are Unix seconds."""
    for batch in pq.ParquetFile(path).iter_batches(columns=list(columns)):
        taken = [batch.column(name) for name in columns]
        values = [
            pc.divide(column.cast(pa.int64()), 1_000_000) if column.type == MOMENT else column
            for column in taken
        ]
        yield from zip(*(column.to_pylist() for column in values), strict=True)


def by_bucket(
    rows: Iterable[tuple[int, Group, Mapping[str, int | None]]],
) -> Iterator[tuple[int, Counts]]:
    """Rows in the order of their buckets, as counts of one bucket after the other."""
    for start, of_bucket in groupby(rows, key=itemgetter(0)):
        found: Counts = {}
        for _, group, measures in of_bucket:
            add(found, group, measures)
        yield start, found


def counted(measures: Iterable[tuple[str, int | None]]) -> Totals:
    """Those that are not zero: an API may leave out what is."""
    return {name: value for name, value in measures if value}


def summed(parts: Iterable[Mapping[str, int | None]]) -> Totals:
    """The sum of several, measure by measure."""
    totals: Totals = {}
    for part in parts:
        for name, value in part.items():
            if value:
                totals[name] = totals.get(name, 0) + value
    return totals


def add(counts: Counts, group: Group, measures: Mapping[str, int | None]) -> None:
    """Add what a row says to what its group has."""
    if more := counted(measures.items()):
        totals = counts.setdefault(group, {})
        for name, value in more.items():
            totals[name] = totals.get(name, 0) + value
