"""From served pages to a day's published files: raw_usage, then 1m, 1h and 1d, each from the last.

Belongs here: which query reads what, in which order, and the refusal to publish a day whose tables
differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import consistency, engine, files
from pipeline.lake.commit import publish
from pipeline.lake.files import DayFile
from pipeline.lake.manifest import Reading, Source, manifest_of
from pipeline.lake.schemas import LEDGER_DATASETS, RAW_USAGE, USAGE, USAGE_DATASETS, Dataset
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, Width, Window
from pipeline.usage.landing import Landed, landed, stored
from pipeline.usage.page_buffer import PageBuffer

CASCADE: Final[tuple[tuple[Dataset, str], ...]] = (
    (USAGE["1m"], "raw_usage"),
    (USAGE["1h"], "usage_1m"),
    (USAGE["1d"], "usage_1h"),
)
"""Each usage dataset and the one it is computed from: minutes from raw, then width by width."""


@dataclass(frozen=True, slots=True)
class DayPublished:
    """What became of a day: rows per dataset, and which files are new or changed.

    `disputed`: the day's totals are not those that the API itself gives; `coverage` says so.
    """

    day: date
    window: Window
    rows: dict[str, int]
    changed: tuple[str, ...]
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    """A day that has been rolled up and is not published yet.

    `paths` has a finished file per usage dataset, raw_usage among them. `read_at` is when the API
    was first asked for it, by source, in Unix seconds. `readings` are those that the day has from
    then on, beside that of this endpoint.
    """

    day: date
    window: Window
    paths: Mapping[str, Path]
    read_at: Mapping[Source, float]
    readings: Mapping[str, Reading] = field(default_factory=dict[str, Reading])


def stage_day(
    con: duckdb.DuckDBPyConnection, day: date, window: Window, buffer: PageBuffer, folder: Path
) -> Staged:
    """Roll a day up from the pages of its drained walk over `window` (the day, or its past part).

    `folder` is for unfinished files, on the lake's disk. Raises ConsistencyError when the
    tables do not agree with each other.
    """
    read_at: dict[Source, float] = {"usage": buffer.read_at}
    if buffer.totals_at is not None:
        read_at["totals"] = buffer.totals_at
    return _cascade(con, Staged(day, window, _paths(folder), read_at), landed(buffer), raw=True)


def publish_staged(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    staged: Staged,
    folder: Path,
    *,
    disputed: bool | None = False,
) -> DayPublished:
    """Publish what was staged in `folder`.

    `disputed` as `pipeline.lake.commit.publish` takes it. Raises what that raises.
    """
    own = {name: path for name, path in staged.paths.items() if path.is_relative_to(folder)}
    changed = publish(con, lake, staged.day, own, staged.read_at, disputed=disputed)
    return published_day(lake, staged.day, staged.window, changed)


def published_day(
    lake: Lake, day: date, window: Window, changed: Sequence[str] = ()
) -> DayPublished:
    """What is known of a day that is published."""
    record = manifest_of(lake.version(day))
    names = [*USAGE_DATASETS, *LEDGER_DATASETS]
    rows = {name: record.files[name].rows for name in names if name in record.files}
    return DayPublished(day, window, rows, tuple(changed), record.disputed)


def rebuild_day(con: duckdb.DuckDBPyConnection, lake: Lake, day: date) -> DayPublished:
    """Publish a day's buckets anew from its stored raw_usage; nothing is asked of the API.

    Raises FileNotFoundError when the day was never loaded, ConsistencyError as `stage_day` does.
    """
    with lake.day_lock(day), lake.staging() as folder:
        raw = lake.file("raw_usage", day)
        if raw is None and RAW_USAGE.name in manifest_of(lake.version(day)).dropped:
            raise FileNotFoundError(
                f"raw_usage of {day} is not kept any more (MKA1_USAGE_KEEP_MINUTES_DAYS), so its "
                "buckets stay as they are"
            )
        if raw is None:
            raise FileNotFoundError(
                f"raw_usage has no day {day}: load it first, for example with "
                f"`mka1-usage run --start {day} --end {day + timedelta(days=1)}`"
            )
        window, paths = files.covered(raw).window, _paths(folder) | {RAW_USAGE.name: raw}
        staged = _cascade(con, Staged(day, window, paths, {}), stored(raw), raw=False)
        return publish_staged(con, lake, staged, folder, disputed=None)


def _paths(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.parquet" for name in USAGE_DATASETS}


def _cascade(
    con: duckdb.DuckDBPyConnection, staged: Staged, parts: Iterable[Landed], *, raw: bool
) -> Staged:
    """Write a day's tables, part by part of its raw rows; `raw`: its raw rows as well."""
    _, hours, days = USAGE.values()
    with ExitStack() as stack:
        written = {
            it.name: stack.enter_context(DayFile(it, staged.paths[it.name], staged.window))
            for it in (RAW_USAGE, *USAGE.values())
            if it is not days and (raw or it is not RAW_USAGE)
        }
        writer = stack.enter_context(ThreadPoolExecutor(1))
        for part in parts:
            _write(con, part, written, writer)
            del part  # or it is held while the next is sorted
    widen(con, "1d", hours, staged.paths[hours.name], staged.paths[days.name], staged.window)
    consistency.require(con, {name: [path] for name, path in staged.paths.items()})
    return staged


def _write(
    con: duckdb.DuckDBPyConnection,
    part: Landed,
    written: Mapping[str, DayFile],
    writer: ThreadPoolExecutor,
) -> None:
    """Write a part of a day: its raw rows and minutes in `writer`, while its hours are counted."""
    minutes, hours, _ = USAGE.values()
    known = {RAW_USAGE.name: part.rows, minutes.name: _minutes(con, part)}
    writing = [
        writer.submit(file.add, known[name].to_batches())
        for name, file in written.items()
        if name in known
    ]
    counted = _of_part(con, "rollup", "narrower", known[minutes.name], seconds=SECONDS["1h"])
    written[hours.name].add(counted.to_batches())
    for one in writing:
        one.result()


def widen(
    con: duckdb.DuckDBPyConnection,
    width: Width,
    narrower: Dataset,
    source: Path,
    path: Path,
    window: Window,
) -> None:
    """Write the usage table of a width from a file of a narrower one."""
    rows = engine.rollup(con, SECONDS[width], narrower, [source])
    files.write(USAGE[width], rows.to_arrow_reader(files.ROW_GROUP), path, window)


def _minutes(con: duckdb.DuckDBPyConnection, part: Landed) -> pa.Table:
    """Where no row has to be added to another, what the query says is what stands there."""
    if part.distinct:
        return part.rows.select(USAGE["1m"].schema.names)
    return _of_part(con, USAGE["1m"].name, RAW_USAGE.name, part.rows)


def _of_part(
    con: duckdb.DuckDBPyConnection, query: str, source: str, rows: pa.Table, **params: int
) -> pa.Table:
    """What a query says of rows in memory."""
    con.register("part", rows)
    try:
        con.execute(f'CREATE OR REPLACE TEMP VIEW "{source}" AS SELECT * FROM part')
        return con.sql(engine.sql(query), params=params or None).to_arrow_table()
    finally:
        con.unregister("part")
