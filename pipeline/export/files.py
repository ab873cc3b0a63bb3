"""A table as Parquet or CSV, or all of them as one DuckDB file: what a file looks like.

Equal rows make equal bytes in Parquet and CSV. In a DuckDB file they do not: small blocks are put
into it in any order. So that is written only where the Parquet files that it is made of differ from
those of the export before (`digest`). Snappy compresses less than zstd, and every reader has it.
"""

from __future__ import annotations

import codecs
import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.tables import Table
from pipeline.lake.engine import building, literal, no_glob
from pipeline.lake.files import ROW_GROUP, regrouped
from pipeline.query.ad_hoc import inert

Format = Literal["parquet", "csv", "duckdb", "xlsx"]

MOST_ROWS: Final = 1_048_575
"""Rows that a sheet of a spreadsheet holds below its header."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV is written: what is between columns, and a comma or a point in decimals.

    Excel reads a CSV by the system's language: in most of Europe, `;` and a comma.
    """

    separator: str = ","
    decimal_comma: bool = False
    iso_times: bool = False
    """Times as 2024-01-01T00:00:00Z, which FOCUS asks for and spreadsheets do not read."""


def write_parquet(table: Table, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """Write a table's rows as one Parquet file; returns how many there are.

    Timestamps lose their zone and stay in UTC. Memory is one row group. Each row group and each
    page has statistics of each column, so that a reader can leave out what is not asked for.
    """
    rows = 0
    with pq.ParquetWriter(
        path, table.schema, compression="snappy", write_page_index=True
    ) as writer:
        for group in regrouped(batches, table.schema):
            writer.write_table(group, row_group_size=ROW_GROUP)
            rows += group.num_rows
    return rows


def digest(paths: Iterable[Path]) -> str:
    """The SHA-256 of files' bytes, one after the other, in hex."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def write_csv(con: duckdb.DuckDBPyConnection, parquet: Path, path: Path, dialect: Dialect) -> None:
    """Write a Parquet file as CSV for spreadsheets.

    UTF-8 with a byte order mark, without which Excel takes it for another encoding; dates and times
    as ISO says. A text that a spreadsheet would take for a formula gets a `'` before it.
    """
    read = _read(parquet)
    bare = path.with_name(f"{path.name}.bare")
    relation = con.sql(read)
    query = inert(relation, read)
    shown: dict[str, str] = {}
    if dialect.decimal_comma:
        shown["decimal"] = "replace(CAST({} AS VARCHAR), '.', ',')"
    if dialect.iso_times:
        shown["timestamp"] = "strftime({}, '%Y-%m-%dT%H:%M:%SZ')"
    columns = zip(relation.columns, relation.types, strict=True)
    casts = [
        f"{shown[kind.id].format(name)} AS {name}" for name, kind in columns if kind.id in shown
    ]
    if casts:
        query = f"SELECT * REPLACE ({', '.join(casts)}) FROM ({query})"
    options = f"FORMAT csv, HEADER, DELIMITER {literal(dialect.separator)}"
    con.execute(f"COPY ({query}) TO {literal(str(bare))} ({options})")
    with bare.open("rb") as source, path.open("wb") as target:
        target.write(codecs.BOM_UTF8)
        shutil.copyfileobj(source, target)
    bare.unlink()


def write_database(
    con: duckdb.DuckDBPyConnection, tables: Mapping[str, tuple[Table, Path]], path: Path
) -> None:
    """Write Parquet files as the tables of one DuckDB file that older clients read too, with what
    tables and columns mean as comments."""
    con.execute("SET threads = 1")  # several take no less time, and leave the file half empty
    with building(path.parent) as folder:
        built = folder / "exported"
        con.execute(f"ATTACH {literal(str(built))} AS exported (STORAGE_VERSION 'v1.0.0')")
        for name, (table, parquet) in tables.items():
            con.execute(f"CREATE TABLE exported.{name} AS {_read(parquet)}")
            said = {f"TABLE exported.{name}": f"{table.description} Grain: {table.grain}."}
            for column in table.columns:
                said[f'COLUMN exported.{name}."{column.name}"'] = column.description
            for what, comment in said.items():
                con.execute(f"COMMENT ON {what} IS {literal(comment)}")
        con.execute("DETACH exported")
        shutil.move(built, path)


def _read(path: Path) -> str:
    return f"FROM read_parquet({literal(no_glob(path))}, hive_partitioning = false)"
