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

from pipeline.apart import UNDATED, apart, is_apart
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
from pipeline.lake.manifest import MOMENT
from pipeline.lake.schemas import (
    COSTS,
    COVERAGE,
    DATASETS,
    ITEM_CONTENTS,
    ITEMS,
    RECORD_DATASETS,
    TOKENS,
    USAGE,
    Dataset,
)
from pipeline.lake.snapshot import Snapshot
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
    """Not loaded."""
    in_part: dict[date, int]
    """Loaded up to a moment of the day, in Unix seconds."""
    disputed: list[date]
    """Loaded, but with totals that differ from the API's own."""
    dropped: set[date]
    """Loaded, and their hours, which facts are made of, are not kept any more."""

    @property
    def words(self) -> dict[str, str]:
        """Each by its name, in words; what there is none of is left out."""
        in_part = [f"{day} (through {iso(through)})" for day, through in self.in_part.items()]
        said = {
            "not loaded": in_words(self.missing),
            "hours not kept any more": in_words(self.dropped),
            "loaded in part": ", ".join(in_part),
            "disputed, since the totals differ from the API's own": in_words(self.disputed),
        }
        return {name: days for name, days in said.items() if days not in {"", "none"}}

    @property
    def unknown(self) -> set[date]:
        """The days without facts: no row does not mean no usage."""
        return self.missing | self.dropped

    def complete_through(self, days: Sequence[date]) -> int:
        """Unix seconds through which usage is all there, from the first of `days`, which are in
        order, on. Days whose hours are not kept are no hole: they were loaded."""
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
            if (first or day) <= day <= (last or day) and not is_apart(day)
        ]
        self._apart = {
            name: self._days_apart(name) for name in sorted(sources & RECORD_DATASETS.keys())
        }
        """By table of records: the exported days of which rows stand apart."""
        self.damage = [
            one
            for one in seen.damage
            if one.day in self._asked
            or (is_apart(one.day) and one.day != UNDATED)
            or one.path.stem in {_HOURS.name, *whole}
        ]
        """The files of what is exported that are not what was published."""

    @property
    def asked(self) -> str:
        """The days that were asked for, in words."""
        ends = {"from": self._first, "through": self._last}
        given = [f"{word} {day}" for word, day in ends.items() if day is not None]
        return " ".join(given) or "in this lake"

    @property
    def loaded(self) -> list[date]:
        """The days with usage, in order: those that are not exported, too."""
        return [day for day in self.snapshot.versions if self.of_day(_HOURS.name, day)]

    def days_of(self, table: Table) -> list[date]:
        """The exported days that there are of a table, in order; of a dimension, those of usage."""
        source = _of_days(table)
        own = (day for day in self._asked if self.of_day(source, day))
        return sorted({*own, *self._apart.get(source, ())})

    def span(self, tables: Iterable[Table]) -> list[date]:
        """Every exported day. Without a first or a last day, from the first or to the last day of
        usage and other facts, or of the tables where there are none; at least one of these must
        have a day."""
        listed = list(tables)
        of_facts = {day for table in listed if table.name in _FACTS for day in self.days_of(table)}
        days = sorted(
            of_facts.union(self.days_of(FACT_USAGE), self.dropped(FACT_USAGE))
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
        dropped = self.snapshot.is_dropped
        return [day for day in days if not self.of_day(name, day) and not dropped(name, day)]

    def without_cost(self) -> list[date]:
        """The exported days whose tokens are known, and what they cost is not: that is computed by
        the minute, and their minutes are not kept any more."""
        name = TOKENS["1m"].name
        days = self.days_of(FACT_TOKENS)
        return [day for day in days if self.snapshot.is_dropped(name, day)]

    def dropped(self, table: Table) -> list[date]:
        """The days asked for of which what a table is made of is not kept any more."""
        source = _of_days(table)
        return [day for day in self._asked if self.snapshot.is_dropped(source, day)]

    def lacking(self, days: Iterable[date]) -> Lacking:
        """What is not known of usage on `days`, none of which is damaged."""
        found = {day: self.snapshot.loaded(_HOURS.name, day) for day in days}
        loaded = {day: facts for day, facts in found.items() if facts is not None}
        dropped = {day for day in found if self.snapshot.is_dropped(_HOURS.name, day)}
        return Lacking(
            found.keys() - loaded.keys() - dropped,
            {day: facts.window.end for day, facts in loaded.items() if not facts.complete(day)},
            disputed_days(self.snapshot, loaded),
            dropped,
        )

    def of_day(self, dataset: str, day: date) -> list[Path]:
        """The file of a day of a dataset, if there is one."""
        return self.snapshot.published(dataset, [day])

    def apart_of(self, dataset: str, day: date) -> list[Path]:
        """The file in which rows of a day stand apart, among those of other days."""
        found = day in self._apart.get(dataset, ())
        return self.snapshot.published(dataset, [apart(day)]) if found else []

    def _days_apart(self, name: str) -> frozenset[date]:
        # A content has no time: it is of the day of its item.
        dated = ITEMS.name if name == ITEM_CONTENTS.name else name
        days: set[date] = set()
        for place in self.snapshot.versions:
            if is_apart(place) and place != UNDATED and self.snapshot.published(name, [place]):
                for path in self.snapshot.published(dated, [place]):
                    moments = pq.ParquetFile(path).read([MOMENT[dated]]).column(0)
                    days.update(moments.cast(pa.date32()).unique().to_pylist())
        return frozenset(day for day in days if (self._first or day) <= day <= (self._last or day))


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
        partial = {*lacking.unknown, *lacking.in_part, *lacking.disputed}
        days = {
            "day_number": [day_window(day).start // DAY for day in calendar],
            "is_loaded": [day not in lacking.unknown for day in calendar],
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
        names = [column.name for column in table.columns[1:]]
        for batch in self._records(table, day, names):
            dates = pa.repeat(pa.scalar(day, pa.date32()), batch.num_rows)
            yield batch.select(names).add_column(0, "date", dates)

    def _records(self, table: Table, day: date, names: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a day of a table of the lake, from its own file, and from among those that
        stand apart."""
        own = self._selection.of_day(table.name, day)
        among = self._selection.apart_of(table.name, day)
        if not among:
            with pq.ParquetFile(*own) as file:
                yield from file.iter_batches(ROW_GROUP, columns=names)
            return
        dataset = DATASETS[table.name]
        items = self._selection.snapshot.published(ITEMS.name, [apart(day)])
        engine.bind(self._con, {"own": (dataset, own), "apart": (dataset, among)})
        engine.bind(self._con, {"apart_items": (ITEMS, items)})
        moment = MOMENT.get(table.name, "items.added_at")
        joined = (
            "" if table.name in MOMENT else "JOIN apart_items AS items USING (conversation_id, id)"
        )
        columns = ", ".join(names)
        order = "id, conversation_id" if "conversation_id" in names else "id"
        rows = self._con.sql(
            f"SELECT {columns} FROM own UNION ALL SELECT {columns} FROM apart {joined} "
            f"WHERE CAST(FLOOR(epoch({moment})) AS BIGINT) // {DAY} = $day_number ORDER BY {order}",
            params={"day_number": day_window(day).start // DAY},
        )
        yield from rows.to_arrow_reader(ROW_GROUP)

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


def _of_days(table: Table) -> str:
    """The table of the lake whose days an exported one has: of a dimension, that of usage."""
    return _source(table.name) if table.by_day else _HOURS.name


def _source(name: str) -> str:
    """The table of the lake that an exported one is made of, day by day."""
    return _FACTS[name].name if name in _FACTS else name
