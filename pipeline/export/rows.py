"""Where the rows of an exported table come from: which files are read, and by which query.

All of them are of one snapshot, so the tables of an export agree, whatever runs publish meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.keys import members
from pipeline.export.tables import (
    DIM_API_KEY,
    DIM_DATE,
    DIM_MODEL,
    DIM_TEAM,
    DIM_USER,
    FACT_COSTS,
    FACT_TOKENS,
    FACT_USAGE,
    FOCUS_COSTS,
    Labels,
    Table,
)
from pipeline.lake import engine
from pipeline.lake.completeness import disputed_days
from pipeline.lake.files import ROW_GROUP
from pipeline.lake.schemas import COSTS, COVERAGE, DATASETS, TOKENS, USAGE, Dataset
from pipeline.lake.snapshot import UNDATED, Snapshot
from pipeline.lake.store import Lake
from pipeline.names.file import Names
from pipeline.pricing.costs import bind_costs
from pipeline.timeline import DAY, SECONDS, Window, day_range, day_window, in_words, iso

NO_USER: Final = "(no user)"
NO_API_KEY: Final = "(no API key)"
NO_MODEL: Final = "(no model)"
NO_TEAM: Final = "(no team)"

_HOURS: Final = USAGE["1h"]
_FACTS: Final[dict[str, Dataset]] = {
    FACT_USAGE.name: _HOURS,
    FACT_TOKENS.name: TOKENS["1h"],
    FACT_COSTS.name: COSTS,
    FOCUS_COSTS.name: COSTS,
}
"""Tables that are made of another one of the lake, day by day."""
_MEMBERS: Final = {
    DIM_USER.name: ("users", "user_id"),
    DIM_API_KEY.name: ("api_keys", "api_key_id"),
    DIM_MODEL.name: ("models", "model"),
}
"""Dimensions that are made of ids: whose they are, and the column of facts that has them."""


class Lacking(NamedTuple):
    """Days of an export of which usage is not all there."""

    missing: set[date]
    """Not loaded: no row does not mean no usage."""
    in_part: dict[date, int]
    """Loaded up to a moment of the day, in Unix seconds."""
    disputed: list[date]
    """Loaded, but with totals that differ from the API's own."""

    @property
    def words(self) -> dict[str, str]:
        """Each by its name, in words; what there is none of is left out."""
        in_part = [f"{day} (through {iso(through)})" for day, through in self.in_part.items()]
        said = {
            "not loaded": in_words(self.missing),
            "loaded in part": ", ".join(in_part),
            "disputed, since the totals differ from the API's own": in_words(self.disputed),
        }
        return {name: days for name, days in said.items() if days not in {"", "none"}}

    def complete_through(self, days: Sequence[date]) -> int:
        """Unix seconds through which usage is all there, from the first of `days`, which are in
        order, on."""
        for day in days:
            if day in self.missing or day in self.disputed:
                return day_window(day).start
            if day in self.in_part:
                return self.in_part[day]
        return day_window(days[-1]).end


class Selection:
    """A snapshot of the lake, and which of its days are exported."""

    def __init__(
        self, lake: Lake, first: date | None, last: date | None, tables: Iterable[str]
    ) -> None:
        names = set(tables)
        whole = (
            {dataset.name for dataset in _FACTS.values()}
            if names & {*_MEMBERS, DIM_TEAM.name}
            else set()
        )
        sources = {_source(name) for name in names} & DATASETS.keys()
        if FACT_TOKENS.name in names:  # what they cost is computed by the minute
            sources.add(TOKENS["1m"].name)
        self.snapshot = seen = Snapshot(lake, names={_HOURS.name, COVERAGE.name, *sources, *whole})
        self._first, self._last = first, last
        self._asked = [
            day
            for day in seen.versions
            if (first or day) <= day <= (last or day) and day != UNDATED
        ]
        self.damage = [
            one
            for one in seen.damage
            if one.day in self._asked or one.path.stem in {_HOURS.name, *whole}
        ]
        """The files of what is exported that are not what was published."""

    @property
    def loaded(self) -> list[date]:
        """The days with usage, in order: those that are not exported, too."""
        return [day for day in self.snapshot.versions if self.of_day(_HOURS.name, day)]

    def days_of(self, table: Table) -> list[date]:
        """The exported days that there are of a table, in order; of a dimension, those of usage."""
        source = _source(table.name) if table.by_day else _HOURS.name
        return [day for day in self._asked if self.of_day(source, day)]

    def span(self, tables: Iterable[Table]) -> list[date]:
        """Every exported day. Without a first or a last day, from the first or to the last day of
        usage and other facts, or of the tables where there are none; at least one of these must
        have a day."""
        listed = list(tables)
        of_facts = {day for table in listed if table.name in _FACTS for day in self.days_of(table)}
        days = sorted(
            of_facts.union(self.days_of(FACT_USAGE))
            or {day for table in listed for day in self.days_of(table)}
        )
        return list(day_range(self._first or days[0], self._last or days[-1]))

    def has(self, table: Table) -> bool:
        """Whether the lake has a row of what a table is made of, and the export a day of it."""
        sources = [_FACTS[FACT_TOKENS.name].name, COSTS.name]
        for source in [_source(table.name)] if table.name in _FACTS else sources:
            loaded = (self.snapshot.loaded(source, day) for day in self.snapshot.versions)
            if self.days_of(table) and any(one is not None and one.rows for one in loaded):
                return True
        return False

    def unread(self, days: Iterable[date]) -> list[date]:
        """The days of which no responses were read."""
        name = _FACTS[FACT_TOKENS.name].name
        return [day for day in days if not self.of_day(name, day)]

    def lacking(self, days: Iterable[date]) -> Lacking:
        """What is not known of usage on `days`, none of which is damaged."""
        found = {day: self.snapshot.loaded(_HOURS.name, day) for day in days}
        loaded = {day: facts for day, facts in found.items() if facts is not None}
        return Lacking(
            found.keys() - loaded.keys(),
            {day: facts.window.end for day, facts in loaded.items() if not facts.complete(day)},
            disputed_days(self.snapshot, loaded),
        )

    def of_day(self, dataset: str, day: date) -> list[Path]:
        """The file of a day of a dataset, if there is one."""
        return self.snapshot.published(dataset, [day])


class Rows:
    """The rows of every table, over a snapshot and a connection that is this one's alone.

    `calendar`: the days of dim_date, of which `lacking` are not all there. `prices`: the table of a
    price list.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        source: Selection,
        names: Names,
        calendar: Sequence[date],
        lacking: Lacking,
        prices: pa.Table,
    ) -> None:
        self._con = con
        self._prices = prices
        self._selection = source
        self._calendar = calendar
        self._bind_whole()
        self.users = self._members(DIM_USER, names.users, NO_USER)
        self.api_keys = self._members(DIM_API_KEY, names.keys, NO_API_KEY)
        self._members(DIM_MODEL, {}, NO_MODEL)
        teams = pl.Series([row.team for row in names.rows if row.team], dtype=pl.String)
        con.register("teams", members(teams, names.teams, NO_TEAM))
        con.register("names", names.table)
        partial = {*lacking.missing, *lacking.in_part, *lacking.disputed}
        days = {
            "day_number": [day_window(day).start // DAY for day in calendar],
            "is_loaded": [day not in lacking.missing for day in calendar],
            "is_complete": [day not in partial for day in calendar],
        }
        con.register("days", pa.table(days))

    @property
    def labels(self) -> Labels:
        """The names that were given, for where they stand beside ids."""
        given = "id IS NOT NULL AND name <> id"
        return {
            "user_id": self._pairs(f"SELECT id, name FROM users WHERE {given}"),
            "api_key_id": self._pairs(f"SELECT id, name FROM api_keys WHERE {given}"),
            "team_key": self._pairs("SELECT number, name FROM teams"),
        }

    def _pairs(self, query: str) -> dict[str | int, str]:
        return dict(self._con.sql(query).fetchall())

    def of_day(self, table: Table, day: date) -> Iterator[pa.RecordBatch]:
        """The rows of a UTC day, by time, then user, then key; of the lake's own tables as there.

        Timestamps are in UTC; whether they say so is left to who writes them.
        """
        if table.name in _FACTS:
            inputs = {
                dataset.name: (dataset, self._selection.of_day(dataset.name, day))
                for dataset in (_FACTS[table.name], COVERAGE)
            }
            engine.bind(self._con, inputs)
            if table.name == FACT_TOKENS.name:
                hours = range(day_window(day).start, day_window(day).end, SECONDS["1h"])
                windows = [Window(hour, hour + SECONDS["1h"]) for hour in hours]
                bind_costs(self._con, self._selection.snapshot, self._prices, windows)
            rows = self._con.sql(engine.sql(table.name))
            for batch in rows.to_arrow_reader(ROW_GROUP):
                yield batch.select(table.schema.names)
            return
        (path,) = self._selection.of_day(table.name, day)
        names = [column.name for column in table.columns[1:]]
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROW_GROUP, columns=names):
                dates = pa.repeat(pa.scalar(day, pa.date32()), batch.num_rows)
                yield batch.select(names).add_column(0, "date", dates)

    def of_all(self, table: Table) -> Iterator[pa.RecordBatch]:
        """The rows of a table whose rows have no day: of the whole lake, by their first column."""
        if table.name == DIM_TEAM.name:
            rows = self._con.sql("SELECT number, id, name FROM teams ORDER BY number")
            for batch in rows.to_arrow_reader(ROW_GROUP):
                yield batch.rename_columns(table.schema.names)
            return
        query, params = table.name, {}
        self._bind_whole()
        if table.name in _MEMBERS:
            whose, column = _MEMBERS[table.name]
            self._con.execute(f"CREATE OR REPLACE TEMP VIEW members AS FROM {whose}")
            query, params = "dim_member", {"by": column}
        elif table.name == DIM_DATE.name:
            files = self._selection.snapshot.published(COVERAGE.name, self._calendar)
            engine.bind(self._con, {COVERAGE.name: (COVERAGE, files)})
        rows = self._con.sql(engine.sql(query), params=params)
        for batch in rows.to_arrow_reader(ROW_GROUP):
            yield batch.rename_columns(table.schema.names)

    def _members(self, table: Table, names: Mapping[str, str], nobody: str) -> pl.Series:
        """Make the table that a dimension's query reads; returns its ids."""
        whose, column = _MEMBERS[table.name]
        ids = self._con.sql(engine.sql("export_ids"), params={"by": column}).pl()
        found = members(ids["id"], names, nobody)
        self._con.register(whose, found)
        return found["id"]

    def _bind_whole(self) -> None:
        """Make what facts are made of views, of the whole lake."""
        published = self._selection.snapshot.published
        inputs = {one.name: (one, published(one.name)) for one in _FACTS.values()}
        engine.bind(self._con, inputs)


def _source(name: str) -> str:
    """The table of the lake that an exported one is made of, day by day."""
    return _FACTS[name].name if name in _FACTS else name
