"""`usage.duckdb`: views over the lake, so that any DuckDB client can query it by name.

Belongs here: what the catalog file holds, but for `pipeline.lake.macros`: no data, only the offsets
of time zones and the names of damaged files. Its views name the versions that were current when it
was built: who has it open sees all tables at one moment, while these are kept (KEPT_SECONDS). Its
storage format is that of DuckDB 1.0, for older clients. Paths in it are absolute.

Times are UTC, of a type without a zone: a query over TIMESTAMPTZ counts by the time zone of the
client. Rows with a time have a `day` beside it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.catalog_files import CatalogFiles
from pipeline.lake.engine import literal, no_glob, openable, scan
from pipeline.lake.macros import MACROS, NOW, TIME_ZONES, VIEWS, plain, time_zones, view
from pipeline.lake.schemas import COVERAGE, DATASETS, Dataset
from pipeline.lake.shortage import shortage
from pipeline.lake.snapshot import Damage, Snapshot
from pipeline.lake.store import Lake, private_folder
from pipeline.timeline import Window, day_window

DAMAGED: Final = "damaged_files"
"""The table of files that were left out."""

PRICES: Final = pa.schema(
    [
        ("model", pa.string()),
        ("like_pattern", pa.string()),
        ("valid_from", pa.date32()),
        ("valid_to", pa.date32()),
        ("currency", pa.string()),
        *((name, pa.decimal128(18, 15)) for name in ("input", "cached", "output", "reasoning")),
        ("specificity", pa.int64()),
    ]
)
"""The columns of the table `prices`: the price list that the catalog was built with, per token."""

NAMES: Final = pa.schema(
    [("kind", pa.string()), ("id", pa.string()), ("name", pa.string()), ("team_id", pa.string())]
)
"""The columns of the table `names`: what people call ids of a kind (user, key, team, cost_centre),
and the team of users and keys."""

_STORAGE_VERSION: Final = "v1.0.0"
_DAY: Final = "day"
_DAY_OF: Final = ("start_time", "created_at", "added_at")
"""The columns whose UTC day a row is of, where a table has one of them."""


def build_catalog(
    lake: Lake,
    path: Path,
    on_set_aside: Callable[[Path], None] = lambda _: None,
    on_damage: Callable[[Damage], None] = lambda _: None,
    prices: pa.Table | None = None,
    names: pa.Table | None = None,
) -> Path:
    """Replace the catalog at `path` with views over what the lake holds now; returns `path`.

    `prices` has the columns of `PRICES`, `names` those of `NAMES`; None: there are none.

    One build goes on at a time: the last one to look at the lake is the last one to be published.
    What a client had put into the catalog is kept in a folder beside it, with which
    `on_set_aside` is called. `on_damage` is called with each damaged file, which no view reads.
    """
    with lake.lock("catalog"), lake.staging() as staging:
        with engine.building(staging) as folder:
            built = folder / "catalog.duckdb"
            snapshot = Snapshot(lake)
            try:
                build(snapshot, built, prices, names)
            except duckdb.Error as error:
                # A footer that Arrow reads and DuckDB does not: every file is read to find it.
                snapshot = Snapshot(lake, thorough=True)
                if shortage(error) or not snapshot.damage:
                    raise
                built.unlink(missing_ok=True)
                build(snapshot, built, prices, names)
            private_folder(path.parent)
            finished = staging / path.name
            shutil.copyfile(built, finished)
            finished.chmod(0o600)
        files = CatalogFiles(lake, path)
        files.publish(finished)
        for kept in files.set_aside():
            on_set_aside(kept)
    for damage in snapshot.damage:
        on_damage(damage)
    lake.clear_up()
    return path


def build(
    snapshot: Snapshot,
    path: Path,
    prices: pa.Table | None = None,
    names: pa.Table | None = None,
) -> None:
    """Write a catalog of what a snapshot shows to a new file, with `prices` (`PRICES`) and `names`
    (`NAMES`) beside."""
    first, last = snapshot.extent or (date(1970, 1, 1), date(1970, 1, 1))
    path.write_bytes(_template(first.year, last.year))
    with duckdb.connect(str(path)) as con:
        con.execute("BEGIN")  # each statement by itself would wait for the disk
        for dataset in DATASETS.values():
            rows = (
                snapshot.coverage()
                if dataset is COVERAGE
                else scan(dataset, snapshot.files(dataset.name))
            )
            _add_view(con, dataset, rows)
        left_out = [(one.day, str(one.path), one.what) for one in snapshot.damage]
        if left_out:
            con.executemany(f"INSERT INTO {DAMAGED} VALUES (?, ?, ?)", left_out)
        for table, written in (("prices", prices), ("names", names)):
            if written is not None:
                con.register("written", written)
                con.execute(f"INSERT INTO {table} SELECT * FROM written")
                con.unregister("written")
        con.execute("COMMIT")


@cache
def _template(first_year: int, last_year: int) -> bytes:
    """A catalog of a lake without a file, with the time zones of these years.

    To make its macros takes longer than all that is of a lake: they are made once a process.
    """
    with engine.building(Path(tempfile.gettempdir())) as folder:
        path = folder / "template.duckdb"
        with duckdb.connect(":memory:") as con:
            con.execute(
                f"ATTACH {literal(str(path))} AS catalog (STORAGE_VERSION '{_STORAGE_VERSION}')"
            )
            con.execute("USE catalog")
            con.execute("BEGIN")
            for dataset in DATASETS.values():
                _add_view(con, dataset, scan(dataset, []))
            _add_tables(con, first_year, last_year)
            _add_macros(con)
            con.execute("COMMIT")
            con.execute("USE memory")
            con.execute("DETACH catalog")
        return path.read_bytes()


def _add_view(con: duckdb.DuckDBPyConnection, dataset: Dataset, rows: str) -> None:
    con.execute(f"CREATE OR REPLACE VIEW {dataset.name} AS {_select(dataset, rows)}")
    con.execute(
        f"COMMENT ON VIEW {dataset.name} IS "
        f"{literal(f'{dataset.description} Grain: {dataset.grain}.')}"
    )


def _add_tables(con: duckdb.DuckDBPyConnection, first_year: int, last_year: int) -> None:
    """What is no view: time zones, and damaged files, prices and names: none of them yet."""
    con.execute(f"CREATE TABLE {DAMAGED}(day DATE, path VARCHAR, problem VARCHAR)")
    con.execute(
        f"COMMENT ON TABLE {DAMAGED} IS 'Files that no table shows, since they are "
        "damaged; coverage says that their hours are missing.'"
    )
    years = Window(
        day_window(date(first_year, 1, 1)).start, day_window(date(last_year, 12, 31)).end
    )
    con.register("zones", time_zones(years))
    con.execute(f"CREATE TABLE {TIME_ZONES} AS SELECT * FROM zones")
    for table, schema, comment in (
        ("prices", PRICES, "What a token costs, by model and day (UTC): the price list"),
        ("names", NAMES, "What people call users, keys, teams and cost centres: their file"),
    ):
        con.register("written", schema.empty_table())
        con.execute(f"CREATE TABLE {table} AS SELECT * FROM written")
        con.unregister("written")
        con.execute(f"COMMENT ON TABLE {table} IS '{comment} as it was when this was built.'")


def _add_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Views and macros beside those of the datasets, in the catalog that is in use."""
    con.execute(f"CREATE MACRO {NOW}() AS {plain('now()')}")
    con.execute(f"COMMENT ON MACRO {NOW} IS 'Now, in UTC, to compare with times of the tables.'")
    for name, one in VIEWS.items():
        con.execute(view(name))
        con.execute(f"COMMENT ON VIEW {name} IS {literal(one.description)}")
    for macro in MACROS:
        con.execute(macro.definition("catalog"))
        con.execute(f"COMMENT ON MACRO TABLE {macro.name} IS {literal(macro.description)}")


def _select(dataset: Dataset, rows: str) -> str:
    """A SELECT over a dataset's rows with plain times, and the day of each row."""
    columns: list[str] = []
    for column in dataset.columns:
        moment = plain(column.name)
        if not pa.types.is_timestamp(column.type):
            columns.append(column.name)
        elif column.name == _DAY:
            columns.append(f"CAST({moment} AS DATE) AS {_DAY}")
        else:
            columns.append(f"{moment} AS {column.name}")
    names = dataset.schema.names
    columns += [f"CAST({plain(name)} AS DATE) AS {_DAY}" for name in _DAY_OF if name in names][:1]
    return f"SELECT {', '.join(columns)} FROM ({rows})"


def prices_of(path: Path) -> pa.Table | None:
    """The prices in a catalog; None where it can't be read, or has none yet."""
    return _written_in(path, "prices", PRICES)


def names_of(path: Path) -> pa.Table | None:
    """The names in a catalog; None where it can't be read, or has none yet."""
    return _written_in(path, "names", NAMES)


def _written_in(path: Path, table: str, schema: pa.Schema) -> pa.Table | None:
    try:
        with (
            openable(path) as readable,
            closing(duckdb.connect(str(readable), read_only=True)) as con,
        ):
            return con.sql(f"FROM {table}").to_arrow_table().cast(schema)
    except (duckdb.Error, pa.ArrowInvalid, OSError):
        return None


def difference(lake: Lake, path: Path) -> str | None:
    """How the catalog differs from what the last run published, in words; None where it does not.

    Nothing is said of one that is not there.
    """
    return CatalogFiles(lake, path).difference()


def shows_another_lake(con: duckdb.DuckDBPyConnection, lake: Lake) -> bool:
    """Whether the views of an open catalog read files that are not of this lake."""
    views = con.execute("SELECT sql FROM duckdb_views() WHERE NOT internal").fetchall()
    reading = [view for (view,) in views if "read_parquet" in view]
    root = literal(no_glob(lake.root))[1:-1]
    return bool(reading) and not any(root in view for view in reading)
