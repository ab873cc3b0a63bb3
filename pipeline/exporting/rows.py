"""Where the rows of an exported table come from: one look at the lake.

Belongs here: which files of which versions are read, and by which query. Does not belong here: what
a query computes (`sql/`), or what becomes of the rows (`pipeline.exporting.files`).

The versions that count are looked up once, and a version never changes: all tables of an export
agree with each other, whatever runs publish meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.exporting.keys import members
from pipeline.exporting.names import Names
from pipeline.exporting.tables import FACT_USAGE, Table
from pipeline.lake import engine
from pipeline.lake.files import ROW_GROUP
from pipeline.lake.schemas import COVERAGE, USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_range, day_window

NO_USER: Final = "(no user)"
NO_API_KEY: Final = "(no API key)"

_HOURS: Final = USAGE["1h"]
_READ: Final = {FACT_USAGE.name: _HOURS.name}
"""Tables that are made of another one of the lake, day by day."""


class Snapshot:
    """The lake as it stood when this was made, and which of its days are exported."""

    def __init__(self, lake: Lake, first: date | None = None, last: date | None = None) -> None:
        found = ((day, lake.version(day)) for day in lake.all_days())
        self._versions = {day: version for day, version in found if version is not None}
        self._asked = [day for day in self._versions if (first or day) <= day <= (last or day)]

    @property
    def loaded(self) -> list[date]:
        """The days with usage, in order: those that are not exported, too."""
        return [day for day in self._versions if self.of_day(_HOURS.name, day)]

    def days_of(self, table: Table) -> list[date]:
        """The exported days that there are of a table, in order; of a dimension, those of usage."""
        source = _READ.get(table.name, table.name) if table.by_day else _HOURS.name
        return [day for day in self._asked if self.of_day(source, day)]

    def span(self, tables: Iterable[Table]) -> list[date]:
        """Every day from the first that any of the tables has to the last; none if none has any."""
        days = sorted({day for table in tables for day in self.days_of(table)})
        return list(day_range(days[0], days[-1])) if days else []

    def files(self, dataset: str) -> list[Path]:
        """The files of all days of a dataset of the lake, those that are not exported too."""
        return [path for day in self._versions for path in self.of_day(dataset, day)]

    def of_day(self, dataset: str, day: date) -> list[Path]:
        """The file of a day of a dataset, if there is one."""
        path = self._versions[day] / f"{dataset}.parquet"
        return [path] if path.is_file() else []


class Rows:
    """The rows of every table, over a snapshot and a connection that is this one's alone.

    `calendar`: the days of dim_date.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        names: Names,
        calendar: Sequence[date],
    ) -> None:
        self._con = con
        self._snapshot = snapshot
        engine.bind(con, {_HOURS.name: (_HOURS, snapshot.files(_HOURS.name))})
        known = con.sql(engine.sql("export_ids")).fetchall()
        self.users = {user for user, _ in known if user is not None}
        self.api_keys = {key for _, key in known if key is not None}
        con.register("users", members("user", self.users, names.users, NO_USER))
        con.register("api_keys", members("api_key", self.api_keys, names.api_keys, NO_API_KEY))
        loaded = set(snapshot.loaded)
        numbers = [day_window(day).start // DAY for day in calendar]
        marks = [day in loaded for day in calendar]
        days = pa.table([pa.array(numbers, pa.int64()), marks], ["day_number", "is_loaded"])
        con.register("days", days)

    def of_day(self, table: Table, day: date) -> Iterator[pa.RecordBatch]:
        """The rows of a UTC day, by time, then user, then key; of the lake's own tables as there.

        Timestamps are in UTC; whether they say so is left to who writes them.
        """
        if table is not FACT_USAGE:
            return self._plain(table, day)
        inputs = {
            dataset.name: (dataset, self._snapshot.of_day(dataset.name, day))
            for dataset in (_HOURS, COVERAGE)
        }
        engine.bind(self._con, inputs)
        return self._query(table)

    def of_all(self, table: Table) -> Iterator[pa.RecordBatch]:
        """The rows of a table whose rows have no day: of the whole lake, by their first column."""
        hours = self._snapshot.files(_HOURS.name)
        engine.bind(self._con, {_HOURS.name: (_HOURS, hours)})
        return self._query(table)

    def _query(self, table: Table) -> Iterator[pa.RecordBatch]:
        reader: Iterator[pa.RecordBatch] = self._con.sql(engine.sql(table.name)).to_arrow_reader(
            ROW_GROUP
        )
        return reader

    def _plain(self, table: Table, day: date) -> Iterator[pa.RecordBatch]:
        (path,) = self._snapshot.of_day(table.name, day)
        names = [column.name for column in table.columns[1:]]
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROW_GROUP, columns=names):
                dates = pa.repeat(pa.scalar(day, pa.date32()), batch.num_rows)
                columns = [dates, *(batch.column(name) for name in names)]
                yield pa.RecordBatch.from_arrays(columns, ["date", *names])
