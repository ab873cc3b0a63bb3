"""The usage endpoints beside that of conversations, as rows of one table: endpoint by endpoint.

Belongs here: their pages into columns, a day's files, and what is published of it. Each endpoint is
read by itself, and its rows take the place of those that the day's files had of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.api import Client, PageSize, UsageQuery, meter_pages
from pipeline.api.meters import MeterPage, MeterRow
from pipeline.endpoints import Endpoint
from pipeline.lake import consistency, engine, files
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.manifest import BILLS, Reading, intact, manifest_of, readings_to_reload
from pipeline.lake.schemas import METER_DATASETS, METER_REVISIONS, METERS, RAW_METERS, Dataset
from pipeline.lake.store import Lake
from pipeline.pseudonyms import UserIds
from pipeline.timeline import SECONDS, Width, Window, day_window
from pipeline.usage.feed import (
    MOMENT,
    ByBucket,
    Counts,
    CountsByBucket,
    Group,
    Grouping,
    Proof,
    add,
    by_bucket,
    grouped,
    placed,
    rows_of,
)
from pipeline.usage.page_buffer import PageBuffer
from pipeline.usage.rollup import DayPublished, Staged

SERVED_METERS: Final = pa.schema([*RAW_METERS.schema, pa.field("serving", pa.int64())])
"""Rows as served: the columns of raw_meters and the number of the bucket's serving."""


@dataclass(frozen=True, slots=True)
class Metered:
    """The feed of one endpoint: see `pipeline.usage.feed.Feed`."""

    of: Endpoint

    @property
    def endpoint(self) -> str:
        return self.of.name

    @property
    def raw(self) -> Dataset:
        return RAW_METERS

    @property
    def tables(self) -> Mapping[Width, Dataset]:
        return METERS

    @property
    def served_rows(self) -> pa.Schema:
        return SERVED_METERS

    def pages(
        self, client: Client, window: Window, width: Width, size: PageSize, by: Grouping
    ) -> AsyncIterator[MeterPage]:
        groups = grouped(by, self.of.dimensions)
        query = UsageQuery(window.start, window.end, width, group_by=groups, endpoint=self.of)
        return meter_pages(client, query, size)

    def rows(
        self, page: MeterPage, first_serving: int, fetched_at: float, ids: UserIds | None
    ) -> pa.Table:
        """A row for each measure. Users are called as `ids` say; extra fields of those whom
        they hide are NULL."""
        of_bucket = [sum(len(row.measures) for row in bucket.results) for bucket in page.buckets]
        place, times = placed(page, of_bucket)
        rows = [
            (*self.group(row, ids), measure, value, _extra(row, ids))
            for bucket in page.buckets
            for row in bucket.results
            for measure, value in row.measures.items()
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 6
        *texts, values, extras = columns
        fetched = pa.scalar(int(fetched_at * 1_000_000), pa.int64())
        return pa.table(
            [
                pa.repeat(self.endpoint, len(rows)),
                *times,
                *(pa.array(text, pa.string()) for text in texts),
                pa.array(values, pa.int64()),
                pa.array(extras, pa.string()),
                pa.repeat(fetched, len(rows)).cast(MOMENT),
                pc.add(place, first_serving),
            ],
            schema=SERVED_METERS,
        )

    def group(self, result: MeterRow, ids: UserIds | None) -> Group:
        user = ids.of(result.user_id) if ids else result.user_id
        return user, result.api_key_id, result.model

    def measures(self, result: MeterRow) -> Mapping[str, int | None]:
        return result.measures

    def stage(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        day: date,
        buffer: PageBuffer,
        folder: Path,
    ) -> Staged:
        """Raises ConsistencyError when the tables do not agree with each other."""
        version = lake.version(day)
        before = manifest_of(version)
        standing = {name: intact(version, before, name) for name in METER_DATASETS}
        reading = Reading(buffer.read_at, buffer.window.end, totals_at=buffer.totals_at)
        # What is damaged can't be kept: those endpoints are to be read again.
        without_minutes = RAW_METERS.name in before.dropped
        sources = [METERS["1h"], METERS["1d"]] if without_minutes else [RAW_METERS]
        keeps = all(standing[it.name] for it in sources if it.name not in before.dropped)
        others = {
            name: one
            for name, one in before.readings.items()
            if name == BILLS or (keeps and name != self.endpoint)
        }
        ends = [one.through for name, one in others.items() if name != BILLS]
        window = Window(buffer.window.start, max([*ends, reading.through]))
        paths = {name: folder / f"{name}.parquet" for name in METER_DATASETS}
        stored = standing[RAW_METERS.name]
        _write_raw(con, self.endpoint, buffer, stored, paths[RAW_METERS.name], window)
        _roll_up(con, paths, window)
        known = before.readings.get(self.endpoint)
        _write_revisions(con, day, self.endpoint, known, standing, paths, reading)
        found = consistency.meter_totals(con, {name: [path] for name, path in paths.items()})
        if found:
            raise consistency.ConsistencyError("; ".join(map(str, found)))
        if without_minutes and keeps:
            self._keep_others(con, standing, paths, window)
        return Staged(day, buffer.window, paths, {}, {**others, self.endpoint: reading})

    def _keep_others(
        self,
        con: duckdb.DuckDBPyConnection,
        standing: Mapping[str, Path | None],
        paths: Mapping[str, Path],
        window: Window,
    ) -> None:
        """Put the other endpoints' buckets beside this one's, where their minutes are not kept."""
        for width in ("1h", "1d"):
            dataset = METERS[width]
            path, stored = paths[dataset.name], standing[dataset.name]
            own = path.replace(path.with_name(f"own-{path.name}"))
            columns = dataset.schema.names
            order = ", ".join(f"{name} NULLS FIRST" for name in columns)
            others = engine.scan(dataset, [stored] if stored else [])
            rows = con.sql(
                f"SELECT * FROM ({engine.scan(dataset, [own])} UNION ALL "
                f"SELECT * FROM ({others}) WHERE endpoint <> {engine.literal(self.endpoint)}) "
                f"ORDER BY {order}"
            )
            _write(dataset, rows, path, window)

    def publish(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        staged: Staged,
        folder: Path,
        *,
        disputed: bool,
    ) -> DayPublished:
        reading = replace(staged.readings[self.endpoint], disputed=disputed)
        change = Change(staged.paths, readings={**staged.readings, self.endpoint: reading})
        changed = publish_days(con, lake, {staged.day: change})[staged.day]
        return self._published(lake, staged.day, reading, changed)

    def _published(
        self, lake: Lake, day: date, reading: Reading, changed: Sequence[str] = ()
    ) -> DayPublished:
        rows = {
            name: self._rows_in(path) for name in METER_DATASETS if (path := lake.file(name, day))
        }
        window = Window(day_window(day).start, reading.through)
        return DayPublished(day, window, rows, tuple(changed), reading.disputed)

    def _rows_in(self, path: Path) -> int:
        """How many rows of a file are of this endpoint."""
        of = pq.read_table(path, columns=["endpoint"]).column("endpoint")
        return int(pc.sum(pc.equal(of, self.endpoint)).as_py() or 0)

    def totals(
        self, con: duckdb.DuckDBPyConnection, width: Width, files: Sequence[Path]
    ) -> ByBucket:
        engine.bind(con, {"counted": (METERS[width], files)})
        found: ByBucket = {}
        rows = con.execute(engine.sql("meter_totals"), {"endpoint": self.endpoint}).fetchall()
        for start, measure, total in rows:
            if total:
                found.setdefault(start, {})[measure] = total
        return found

    def key_totals(
        self, con: duckdb.DuckDBPyConnection, width: Width, path: Path
    ) -> CountsByBucket:
        engine.bind(con, {"counted": (METERS[width], [path])})
        found: CountsByBucket = {}
        rows = con.execute(engine.sql("meter_key_totals"), {"endpoint": self.endpoint}).fetchall()
        for start, key, measure, total in rows:
            add(found.setdefault(start, {}), (key,), {measure: total})
        return found

    def counts(self, path: Path) -> Iterator[tuple[int, Counts]]:
        columns = ["endpoint", "start_time", "user_id", "api_key_id", "model", "measure", "value"]
        return by_bucket(
            (start, (user, key, model), {measure: value})
            for endpoint, start, user, key, model, measure, value in rows_of(path, columns)
            if endpoint == self.endpoint
        )

    def loaded(self, lake: Lake, day: date) -> Window | None:
        version = lake.version(day)
        reading = manifest_of(version).readings.get(self.endpoint)
        if version is None or reading is None:
            return None
        return Window(day_window(day).start, reading.through)

    def to_reload(self, lake: Lake, now: float) -> list[date]:
        return readings_to_reload(lake, self.endpoint, now)

    def confirm(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, day: date, at: float, by: Proof
    ) -> DayPublished:
        readings = manifest_of(lake.version(day)).readings
        reading = (
            replace(readings[self.endpoint], read_at=at, totals_at=None)
            if by == "usage"
            else replace(readings[self.endpoint], totals_at=at)
        )
        change = Change(readings={**readings, self.endpoint: reading})
        publish_days(con, lake, {day: change})
        return self._published(lake, day, reading)


def _extra(row: MeterRow, ids: UserIds | None) -> str | None:
    hidden = ids is not None and row.extra is not None and ids.hides(row.user_id, row.extra)
    return None if hidden else row.extra


def _write_raw(
    con: duckdb.DuckDBPyConnection,
    endpoint: str,
    buffer: PageBuffer,
    standing: Path | None,
    path: Path,
    window: Window,
) -> None:
    """The endpoint's rows as served, beside what is stored of the others."""
    stored = engine.scan(RAW_METERS, [standing] if standing else [])
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW others AS SELECT * FROM ({stored}) "
        f"WHERE endpoint <> {engine.literal(endpoint)}"
    )
    con.register("servings", buffer.servings())
    con.register("served_rows", buffer.served_rows())
    _write(RAW_METERS, con.sql(engine.sql(RAW_METERS.name)), path, window)
    con.unregister("served_rows")


def _write_revisions(
    con: duckdb.DuckDBPyConnection,
    day: date,
    endpoint: str,
    known: Reading | None,
    standing: Mapping[str, Path | None],
    paths: Mapping[str, Path],
    reading: Reading,
) -> None:
    """Add what the API has restated of what was `known` and is known by `reading`; what is damaged
    can't be compared with, nor added to."""
    minutes = METERS["1m"]
    old, revisions = standing[minutes.name], standing[METER_REVISIONS.name]
    inputs = {
        "before": (minutes, [old] if old else []),
        "after": (minutes, [paths[minutes.name]]),
        "revisions_before": (METER_REVISIONS, [revisions] if revisions else []),
    }
    engine.bind(con, inputs)
    params = {
        "endpoint": endpoint,
        "known_through": min(known.through, reading.through)
        if known and old
        else day_window(day).start,
        "seen_at": datetime.fromtimestamp(reading.seen_at, UTC),
    }
    rows = con.sql(engine.sql(METER_REVISIONS.name), params=params)
    _write(METER_REVISIONS, rows, paths[METER_REVISIONS.name], day_window(day))


def _roll_up(con: duckdb.DuckDBPyConnection, paths: Mapping[str, Path], window: Window) -> None:
    """Minutes from the rows as served, then width by width."""
    raw = paths[RAW_METERS.name]
    engine.bind(con, {RAW_METERS.name: (RAW_METERS, [raw])})
    rows, narrower = con.sql(engine.sql(METERS["1m"].name)), METERS["1m"]
    for width, dataset in METERS.items():
        if width != "1m":
            source = [paths[narrower.name]]
            rows = engine.rollup(con, SECONDS[width], narrower, source, "meters_rollup")
        _write(dataset, rows, paths[dataset.name], window)
        narrower = dataset


def _write(dataset: Dataset, rows: duckdb.DuckDBPyRelation, path: Path, window: Window) -> None:
    files.write(dataset, rows.to_arrow_reader(files.ROW_GROUP), path, window)
