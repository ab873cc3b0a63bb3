"""`usage.duckdb`: views over the lake, so that any DuckDB client can query it by name.

Belongs here: the catalog file. Does not belong here: data, of which it holds none but the offsets
of time zones; what it has besides a view of each table (`pipeline.lake.macros`).

The file is built aside and renamed into place, so whoever has the old one open neither blocks a
run nor is blocked by one. Its views name the versions of the days that counted when it was built,
which never change: whoever has it open sees all tables as they stood together, until it is opened
anew, and for as long as versions are kept (`pipeline.lake.store.KEPT_SECONDS`). It is written in
the storage format of DuckDB 1.0, which clients older than the one used here read too. Paths in it
are absolute: it works from any folder, and is to be built again (any run does) when the home folder
has moved.
"""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Final

import duckdb

from pipeline.lake import engine
from pipeline.lake.engine import literal, scan
from pipeline.lake.macros import MACROS, TIME_ZONES, VIEWS, time_zones
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake, private_folder
from pipeline.timeline import Window, day_window

_STORAGE_VERSION: Final = "v1.0.0"


def build_catalog(lake: Lake, path: Path) -> Path:
    """Replace the catalog at `path` with views over what the lake holds now; returns `path`.

    One build goes on at a time: the last one to look at the lake is the last one to be published.
    """
    aside = path.with_name(f".{path.name}.new")
    with lake.lock("catalog"), lake.staging() as staging, engine.building(staging) as folder:
        built = folder / "catalog.duckdb"
        _build(lake, built)
        private_folder(path.parent)
        try:
            shutil.copyfile(built, aside)  # over what a build that was killed left there
            aside.chmod(0o600)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    lake.clear_up()
    return path


def _build(lake: Lake, path: Path) -> None:
    with duckdb.connect(":memory:") as con:
        con.execute(
            f"ATTACH {literal(str(path))} AS catalog (STORAGE_VERSION '{_STORAGE_VERSION}')"
        )
        versions = [version for day in lake.all_days() if (version := lake.version(day))]
        for dataset in DATASETS.values():
            files = [version / f"{dataset.name}.parquet" for version in versions]
            select = scan(dataset, [path for path in files if path.is_file()])
            con.execute(f"CREATE VIEW catalog.{dataset.name} AS {select}")
            con.execute(
                f"COMMENT ON VIEW catalog.{dataset.name} IS "
                f"{literal(f'{dataset.description} Grain: {dataset.grain}.')}"
            )
        days = lake.all_days() or [date(1970, 1, 1)]
        zones = time_zones(Window(day_window(days[0]).start, day_window(days[-1]).end))
        con.register("zones", zones)
        con.execute(f"CREATE TABLE catalog.{TIME_ZONES} AS SELECT * FROM zones")
        con.execute("USE catalog")
        for name, description in VIEWS.items():
            con.execute(f"CREATE VIEW {name} AS {engine.sql(name)}")
            con.execute(f"COMMENT ON VIEW {name} IS {literal(description)}")
        for macro in MACROS:
            con.execute(macro.definition("catalog"))
            con.execute(
                f"COMMENT ON MACRO TABLE catalog.{macro.name} IS {literal(macro.description)}"
            )
        con.execute("USE memory")
        con.execute("DETACH catalog")
