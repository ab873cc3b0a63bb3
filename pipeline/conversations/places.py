"""Which day's file each record stands in: its own day's where that is loaded, else one apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.apart import EARLIEST, UNDATED, apart, is_apart, month_of
from pipeline.lake import engine
from pipeline.lake.manifest import MOMENT
from pipeline.lake.partitioned_write import days_in
from pipeline.lake.schemas import ITEM_CONTENTS, ITEMS, Dataset
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_range, day_window


class Places:
    """Where the records of each day stand, from EARLIEST through `last`, where `loaded` are."""

    def __init__(self, loaded: Collection[date], last: date) -> None:
        self.loaded = frozenset(loaded)
        days = day_range(EARLIEST, max([last, *self.loaded]))
        self._homes = {day: day if day in self.loaded else apart(day) for day in days}

    @property
    def table(self) -> pa.Table:
        """`day_number` and `stands_on`: days and where their records stand, since 1970."""
        homes = self._homes
        numbers = (
            [day_window(day).start // DAY for day in side] for side in (homes, homes.values())
        )
        return pa.table(
            [pa.array(side, pa.int64()) for side in numbers], ["day_number", "stands_on"]
        )

    def home(self, day: date) -> date:
        """Where the records of a day stand."""
        return self._homes.get(day, day)

    def to_look_at(self, lake: Lake) -> list[date]:
        """Where records stand apart some of which may be of a day that is loaded now."""
        months = {day.replace(day=1) for day in self.loaded}
        apart_ones = (day for day in lake.all_days() if is_apart(day) and day != UNDATED)
        return [day for day in apart_ones if month_of(day) in months]

    def misplaced(self, lake: Lake, dataset: Dataset, places: Iterable[date]) -> set[date]:
        """Those of `places` with records of days that are loaded now, and these days."""
        found: set[date] = set()
        for place in places:
            if path := lake.file(dataset.name, place):
                moments = pq.ParquetFile(path).read([MOMENT[dataset.name]]).column(0)
                if days := self.loaded.intersection(days_in(moments)):
                    found |= {place, *days}
        return found


def plausible(records: pa.Table, span: Mapping[str, float]) -> pa.Table:
    """Those of the records that say of a moment that can be that they were created then: from
    `earliest` of the span on and before `until` (Unix seconds)."""
    begin, end = (pa.scalar(int(span[name] * 1e6), pa.int64()) for name in ("earliest", "until"))
    micros = records.column("created_at").cast(pa.int64())
    return records.filter(pc.and_(pc.greater_equal(micros, begin), pc.less(micros, end)))


def dated_by_now(lake: Lake, dataset: Dataset, span: Mapping[str, float]) -> pa.Table:
    """`id` and `created_at` of what stands under UNDATED, and is of a day by now: what was in the
    future when it was seen is so no more."""
    columns = ["id", "created_at"]
    path = lake.file(dataset.name, UNDATED)
    schema = pa.schema([dataset.schema.field(name) for name in columns])
    table = schema.empty_table() if path is None else pq.ParquetFile(path).read(columns)
    return plausible(table, span)


def files_of(
    con: duckdb.DuckDBPyConnection, lake: Lake, dataset: Dataset, wanted: str
) -> set[date]:
    """The days in whose files rows of a dataset stand, whatever day they are of.

    `wanted`: a SELECT of `conversation_id` and `id`; the first is NULL where ids are unique.
    """
    files = lake.files(dataset.name)
    if not files:
        return set()
    paths = ", ".join(engine.literal(engine.no_glob(path)) for path in files)
    within = "conversation_id" if dataset in {ITEMS, ITEM_CONTENTS} else "NULL"
    con.execute(f"CREATE OR REPLACE TEMP VIEW wanted AS {wanted}")
    con.execute(
        "CREATE OR REPLACE TEMP VIEW landed AS "
        f"SELECT CAST({within} AS VARCHAR) AS conversation_id, id, filename AS file "
        f"FROM read_parquet([{paths}], hive_partitioning = false, filename = true)"
    )
    found = con.sql(engine.sql("files_of_ids")).fetchall()
    # A version's folder stands in that of its day.
    return {date.fromisoformat(Path(path).parent.parent.name) for (path,) in found}
