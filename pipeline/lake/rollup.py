"""From served pages to a day's published files: raw_usage, then 1m, 1h and 1d by cascade.

Belongs here: which query reads what, in which order, and the refusal to publish a day that does
not add up. Does not belong here: the queries (`sql/`), the file format (`pipeline.lake.store`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq

from pipeline.lake import audit, engine, files
from pipeline.lake.ledger import Source, read_record
from pipeline.lake.publication import publish
from pipeline.lake.schemas import DATASETS, LEDGER_DATASETS, RAW_USAGE, USAGE, Dataset
from pipeline.lake.spool import Spool
from pipeline.lake.store import Lake
from pipeline.timeline import Window

CASCADE: Final[tuple[tuple[Dataset, str], ...]] = (
    (USAGE["1m"], "raw_usage"),
    (USAGE["1h"], "usage_1m"),
    (USAGE["1d"], "usage_1h"),
)
"""Each usage dataset and the one it is computed from: minutes from raw, then width by width."""


@dataclass(frozen=True, slots=True)
class DayPublished:
    """What became of a day: rows per dataset, and which files are new or changed."""

    day: date
    window: Window
    rows: dict[str, int]
    changed: tuple[str, ...]


def publish_day(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    day: date,
    window: Window,
    spool: Spool,
    folder: Path,
) -> DayPublished:
    """Publish a day from the pages of its drained walk over `window` (the day, or its past part).

    `folder` is for unfinished files, on the lake's disk. Raises audit.AuditError, and publishes
    nothing, when the tables do not agree with each other.
    """
    con.register("servings", spool.servings())
    con.register("served_rows", spool.served_rows())
    raw = folder / "raw_usage.parquet"
    _write(con, RAW_USAGE, raw, window)
    con.unregister("served_rows")
    asked: dict[Source, float] = {"usage": spool.read_at}
    return _cascade(con, lake, day, window, {"raw_usage": raw}, folder, asked)


def rebuild_day(con: duckdb.DuckDBPyConnection, lake: Lake, day: date) -> DayPublished:
    """Publish a day's buckets anew from its landed raw_usage; nothing is asked of the API.

    Raises FileNotFoundError when the day was never loaded, and AuditError as `publish_day` does.
    """
    with lake.day_lock(day), lake.staging() as folder:
        raw = lake.file("raw_usage", day)
        if raw is None:
            raise FileNotFoundError(
                f"raw_usage has no day {day}: load it first, for example with "
                f"`mka1-usage run --start {day} --end {day + timedelta(days=1)}`"
            )
        window = files.covered(raw).window
        return _cascade(con, lake, day, window, {"raw_usage": raw}, folder, {})


def _cascade(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    day: date,
    window: Window,
    paths: dict[str, Path],
    folder: Path,
    asked: Mapping[Source, float],
) -> DayPublished:
    for dataset, source in CASCADE:
        engine.bind(con, {source: (DATASETS[source], [paths[source]])})
        paths[dataset.name] = folder / f"{dataset.name}.parquet"
        _write(con, dataset, paths[dataset.name], window)
    audit.require(con, {name: [path] for name, path in paths.items()})
    staged = {name: path for name, path in paths.items() if path.is_relative_to(folder)}
    rows = {name: pq.read_metadata(path).num_rows for name, path in paths.items()}
    changed = publish(con, lake, day, staged, asked)
    version = lake.version(day)
    if version is not None:
        records = read_record(version).files
        rows |= {name: records[name].rows for name in LEDGER_DATASETS}
    return DayPublished(day, window, rows, tuple(changed))


def _write(con: duckdb.DuckDBPyConnection, dataset: Dataset, path: Path, window: Window) -> None:
    rows = con.sql(engine.sql(dataset.name)).to_arrow_reader(files.ROW_GROUP)
    files.write(dataset, rows, path, window)
