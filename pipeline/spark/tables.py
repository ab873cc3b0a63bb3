"""The tables of the shared lake as temporary views of a session, by the names of `usage.duckdb`.

Belongs here: which files a view reads, and what it has beside the contract's columns. Times are
Spark's TIMESTAMP, which a session in UTC shows and compares as UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from pipeline.apart import UNDATED, is_apart
from pipeline.lake import catalog, engine
from pipeline.lake.macros import TIME_ZONES, VIEWS, time_zones
from pipeline.lake.schemas import COVERAGE, COVERED, DATASETS, Dataset
from pipeline.spark.connect import SHARE, SparkError
from pipeline.spark.dialect import to_spark
from pipeline.timeline import DAY, Window, day_range, day_window, spans

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.session import SparkSession

    from pipeline.shared_lake.shared import SharedLake

Files = Callable[[str], Mapping[date, str]]
"""Where the file of each day of a dataset is: a path, or s3://…; each below `day=2024-01-05/`."""

PRICES: Final = "prices"
CALLED: Final = "names"
WRITTEN: Final = {PRICES: catalog.PRICES, CALLED: catalog.NAMES}
"""Tables of what people write by hand."""
NAMES: Final = frozenset({*DATASETS, *VIEWS, TIME_ZONES, *WRITTEN})
"""What a question can read."""

_TYPES: Final = {
    "timestamp[us, tz=UTC]": "TIMESTAMP",
    "int64": "BIGINT",
    "string": "STRING",
    "date32[day]": "DATE",
    "decimal128(18, 15)": "DECIMAL(18, 15)",
}
_DAY: Final = "day"
_MOMENTS: Final = ("start_time", "created_at", "added_at")
"""Columns of which a table has one, if its rows have a time: it has a `day` beside it then."""
_OF_VIEWS: Final = {
    **dict.fromkeys(("users", "api_keys"), ("usage_1h",)),
    **dict.fromkeys(("user_names", "api_key_names"), ("usage_1h", CALLED)),
    "team_names": (CALLED,),
}
"""What each of VIEWS reads."""


def of_one_moment(shared: SharedLake) -> Files:
    """The files of all tables as they stand now, whoever commits meanwhile. SharedLakeError where
    the shared lake can't be used."""
    standing = shared.standing()

    def files(name: str) -> dict[date, str]:
        entries = {day: of.manifest.files.get(name) for day, of in standing.items()}
        return {
            day: shared.warehouse.place(name, day, entry.sha256)
            for day, entry in entries.items()
            if entry is not None and entry.rows
        }

    return files


def make_views(
    session: SparkSession,
    files: Files,
    names: Collection[str],
    written: Mapping[str, pa.Table],
) -> None:
    """Make the views of `names` (of NAMES). `written`: tables of WRITTEN, as in `usage.duckdb`;
    those that are absent have no rows.

    Raises what a session raises.
    """
    wanted = inputs_of(names)
    by_folder = _knows_folders(session, files(COVERAGE.name))
    for name in sorted(wanted & DATASETS.keys()):
        found = files(name)
        rows = _read_with_day(session, DATASETS[name], found, by_folder=by_folder)
        if name == COVERAGE.name:
            rows = _with_missing_hours(session, rows, found)
        rows.createOrReplaceTempView(name)
    if TIME_ZONES in wanted:
        known = sorted(day for day in files(COVERAGE.name) if not is_apart(day)) or [UNDATED]
        first, last = known[0], known[-1]
        zones = time_zones(Window(day_window(first).start, day_window(last).end))
        session.createDataFrame(zones).createOrReplaceTempView(TIME_ZONES)
    for table in sorted(wanted & WRITTEN.keys()):
        columns = {field.name: _TYPES[str(field.type)] for field in WRITTEN[table]}
        rows = _nothing(session, columns)
        if table in written and written[table].num_rows:
            rows = session.createDataFrame(written[table])
        rows.createOrReplaceTempView(table)
    for name in sorted(set(names) & VIEWS.keys()):
        heads = VIEWS[name].columns
        named = ", ".join(f"{column} AS {head}" for column, head in heads.items())
        query = f"SELECT {named}, * EXCEPT ({', '.join(heads)}) FROM ({to_spark(VIEWS[name].body)})"
        session.sql(query).createOrReplaceTempView(name)


def inputs_of(names: Collection[str]) -> frozenset[str]:
    """What these (of NAMES) are made of: views are read from others."""
    return frozenset(table for name in names for table in _OF_VIEWS.get(name, (name,)))


def read(session: SparkSession, dataset: Dataset, files: Mapping[date, str]) -> DataFrame:
    """A dataset's rows from its files; without files, none."""
    columns = {it.name: _TYPES[str(it.type)] for it in dataset.columns}
    if not files:
        return _nothing(session, columns)
    return session.read.schema(_ddl(columns)).parquet(*map(as_read, files.values()))


def _read_with_day(
    session: SparkSession, dataset: Dataset, files: Mapping[date, str], *, by_folder: bool
) -> DataFrame:
    """The same with the UTC day of each row, where rows have a time.

    `by_folder` takes it from the name of the folder that a file is in, so a condition on it leaves
    out the files of other days. Of rows that stand apart it is that of each.
    """
    columns = {it.name: _TYPES[str(it.type)] for it in dataset.columns}
    moments = [name for name in (*_MOMENTS, _DAY) if name in columns]
    if not moments:
        return read(session, dataset, files)
    columns[_DAY] = "DATE"
    if not files:
        return _nothing(session, columns)
    own = {day: file for day, file in files.items() if by_folder and not is_apart(day)}
    parts: list[DataFrame] = []
    if own:
        folder = as_written(_base(next(iter(own.values()))))
        reader = session.read.schema(_ddl(columns)).option("basePath", folder)
        parts.append(reader.parquet(*map(as_read, own.values())).select(*columns))
    if rest := {day: file for day, file in files.items() if day not in own}:
        words = [
            f"CAST({moments[0]} AS DATE) AS {_DAY}" if name == _DAY else name for name in columns
        ]  # a session is in UTC
        parts.append(read(session, dataset, rest).selectExpr(*words))
    return parts[0].unionByName(parts[1]) if parts[1:] else parts[0]


def _knows_folders(session: SparkSession, files: Mapping[date, str]) -> bool:
    """Whether a server finds the day in the name of a folder: Sail reads it as NULL.

    SparkError where it finds no rows in a file that has some: other tables would be empty too.
    """
    one = dict([item for item in files.items() if not is_apart(item[0])][:1])
    found = _read_with_day(session, COVERAGE, one, by_folder=True).select(_DAY).limit(1).collect()
    if one and not found:
        (place,) = one.values()
        raise SparkError(f"Spark finds no rows in {place}, which has some: {SHARE}")
    return all(row[0] is not None for row in found)


def _ddl(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def _nothing(session: SparkSession, columns: Mapping[str, str]) -> DataFrame:
    """A table without a row."""
    typed = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
    return session.sql(f"SELECT {typed} WHERE 1 = 0")


def _base(place: str) -> str:
    """The folder of all days of a table's files."""
    return place.rpartition(f"/{_DAY}=")[0]


def as_read(place: str) -> str:
    """A path or URL as Spark reads it: it stands for itself, and is no pattern."""
    return "".join(f"\\{char}" if char in "{}[]*?\\" else char for char in as_written(place))


def as_written(place: str) -> str:
    """A path or URL as Spark writes to it: S3 goes by another name there."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return f"file://{place}"
    return f"{'s3a' if scheme == 's3' else scheme}://{rest}"


def _with_missing_hours(
    session: SparkSession, rows: DataFrame, files: Mapping[date, str]
) -> DataFrame:
    """Coverage as every reader sees it: days in between that were never loaded are missing, and of
    days that are none of the lake's nothing is."""
    rows.createOrReplaceTempView("coverage_of_files")
    parts = [f"SELECT * FROM coverage_of_files WHERE YEAR(day) <> {UNDATED.year}"]
    if stretches := ", ".join(_stretches(files)):
        columns = ", ".join(COVERAGE.schema.names)
        parts.append(
            f"SELECT {columns}, DATE(start_time) AS day FROM (WITH stretches AS (SELECT * FROM "
            f"VALUES {stretches} AS s (dataset, first_day, last_day)) "
            f"{to_spark(engine.sql('missing_hours'))})"
        )
    return session.sql(
        f"WITH known AS ({' UNION ALL '.join(parts)}), extent AS (SELECT MIN(day) AS first_day, "
        "MAX(day) AS last_day FROM known WHERE dataset = 'usage_1d' AND status <> 'missing') "
        "SELECT known.* FROM known CROSS JOIN extent "
        "WHERE status <> 'missing' OR day BETWEEN first_day AND last_day"
    )


def _stretches(files: Mapping[date, str]) -> Iterator[str]:
    """Days between the first and the last of which nothing says what is known, table by table."""
    known = {day for day in files if not is_apart(day)}
    if known:
        absent = (day for day in day_range(min(known), max(known)) if day not in known)
        for first, last in spans(absent):
            for name in COVERED:
                yield f"('{name}', {_number(first)}, {_number(last)})"


def _number(day: date) -> str:
    return f"CAST({day_window(day).start // DAY} AS BIGINT)"
