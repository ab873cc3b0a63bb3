"""`usage.duckdb`: views over the lake, so that any DuckDB client can query it by name.

Belongs here: the catalog file and nothing in it but views. Does not belong here: data.

The file is built aside and renamed into place, so whoever has the old one open neither blocks a
run nor is blocked by one. It is written in the storage format of DuckDB 1.0, which clients
older than the one used here read too. Paths in it are absolute: it works from any folder, and is
to be built again (any run does) when the home folder has moved.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

import duckdb

from pipeline.lake.engine import empty, literal, no_glob
from pipeline.lake.schemas import DATASETS, Dataset
from pipeline.lake.store import Lake

_STORAGE_VERSION: Final = "v1.0.0"


def build_catalog(lake: Lake, path: Path) -> Path:
    """Replace the catalog at `path` with views over what the lake holds now; returns `path`.

    One build goes on at a time: the last one to look at the lake is the last one to be published.
    """
    aside = path.with_name(f".{path.name}.new")
    # Built in the system's folder for temporary files: DuckDB can't create a database under a
    # folder that has a question mark in its name, though it can read one there.
    with lake.lock("catalog"), tempfile.TemporaryDirectory(prefix="mka1-usage-") as folder:
        built = Path(folder) / "catalog.duckdb"
        _build(lake, built)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(built, aside)  # over what a build that was killed left there
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    return path


def _build(lake: Lake, path: Path) -> None:
    with duckdb.connect(":memory:") as con:
        con.execute(
            f"ATTACH {literal(str(path))} AS catalog (STORAGE_VERSION '{_STORAGE_VERSION}')"
        )
        for dataset in DATASETS.values():
            con.execute(f"CREATE VIEW catalog.{dataset.name} AS {_select(lake.root, dataset)}")
            con.execute(
                f"COMMENT ON VIEW catalog.{dataset.name} IS "
                f"{literal(f'{dataset.description} Grain: {dataset.grain}.')}"
            )
        con.execute("DETACH catalog")


def _select(root: Path, dataset: Dataset) -> str:
    folder = root / dataset.name
    if next(folder.glob(f"day=*/{dataset.name}.parquet"), None) is None:
        return empty(dataset)  # a glob without a match is an error for DuckDB
    columns = ", ".join(column.name for column in dataset.columns)
    return (
        f"SELECT {columns} FROM read_parquet("
        f"{literal(f'{no_glob(folder)}/day=*/{dataset.name}.parquet')}, hive_partitioning = false)"
    )
