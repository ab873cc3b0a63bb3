"""Readers of a lake, each in its own library: what a day says at one width against the others.

Belongs here: reading as users do, while days are being published. As a program it reads again and
again, and prints what it saw.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TABLES: Final = ("raw_usage", "usage_1m", "usage_1h", "usage_1d")
Totals = dict[str, int]

_QUERY: Final = " UNION ALL ".join(
    f"SELECT '{table}' AS source, sum(num_operations)::BIGINT AS total FROM {{{table}}} "
    "WHERE start_time >= $start AND start_time < $start + INTERVAL 1 DAY"
    for table in TABLES
)


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def of_catalog(root: Path, day: date) -> Totals:
    """One query over the views."""
    with closing(duckdb.connect(str(root.parent / "usage.duckdb"), read_only=True)) as con:
        con.execute("SET TimeZone = 'UTC'")
        query = _QUERY.format(**{table: table for table in TABLES})
        return dict(con.execute(query, {"start": _start(day)}).fetchall())


def _version(root: Path, day: date) -> Path:
    """All tables of a day as they stood together: the link is followed once."""
    return (root / "days" / day.isoformat()).resolve()


def of_duckdb_files(root: Path, day: date) -> Totals:
    """One query over the files of a version."""
    version = _version(root, day)
    files = {table: f"read_parquet('{version / table}.parquet')" for table in TABLES}
    with closing(duckdb.connect()) as con:
        con.execute("SET TimeZone = 'UTC'")
        rows = con.execute(_QUERY.format(**files), {"start": _start(day)}).fetchall()
    return dict(rows)


def of_polars(root: Path, day: date) -> Totals:
    """A lazy frame for each file of a version."""
    version = _version(root, day)
    return {
        table: int(
            pl.scan_parquet(version / f"{table}.parquet")
            .select(pl.sum("num_operations"))
            .collect()
            .item()
        )
        for table in TABLES
    }


def of_pyarrow(root: Path, day: date) -> Totals:
    """A table for each file of a version."""
    version = _version(root, day)
    return {
        table: int(pc.sum(pq.ParquetFile(version / f"{table}.parquet").read()["num_operations"]))
        for table in TABLES
    }


def of_folders(root: Path, day: date) -> Totals:
    """One table's folder at a time, its links followed first: each day of it is whole.

    Polars opens a file once for its footer and once for its rows; a link could lead to two.
    """
    found: Totals = {}
    for table in ("usage_1d", "usage_1h"):
        frame = pl.scan_parquet([path.resolve() for path in (root / table).glob("*/*.parquet")])
        daily = frame.group_by(pl.col("start_time").dt.date()).agg(pl.sum("num_operations"))
        found |= {f"{table} {of_day}": int(total) for of_day, total in daily.collect().iter_rows()}
    return found


READERS: Final[dict[str, Callable[[Path, date], Totals]]] = {
    "usage.duckdb": of_catalog,
    "DuckDB": of_duckdb_files,
    "Polars": of_polars,
    "pyarrow": of_pyarrow,
}


def disagreements(root: Path, day: date) -> list[str]:
    """The readers of files to whom the widths of a day differ."""
    return [
        name
        for name, read in READERS.items()
        if name != "usage.duckdb" and len(set(read(root, day).values())) > 1
    ]


def main() -> None:
    """Read a day `reads` times, in turn by each reader; print reads, errors and disagreements.

    `right` are the totals that the day may have, by day; a folder of one table has no other.
    """
    root, day = Path(sys.argv[1]), date.fromisoformat(sys.argv[2])
    reads, allowed = int(sys.argv[3]), {int(total) for total in sys.argv[4].split(",")}
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
    errors: list[str] = []
    differing = wrong = 0
    seen: set[int] = set()
    for number in range(reads):
        turn = number % (len(READERS) + 1)
        try:
            if turn == len(READERS):
                totals = of_folders(root, day)
                of_day = {total for name, total in totals.items() if name.endswith(str(day))}
            else:
                totals = list(READERS.values())[turn](root, day)
                of_day = set(totals.values())
                differing += len(of_day) > 1
        except (duckdb.Error, pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
            errors.append(f"{type(error).__name__}: {error}")
            continue
        wrong += not of_day <= allowed
        seen |= of_day
    result = {
        "reads": reads,
        "errors": errors[:3],
        "failed": len(errors),
        "differing": differing,
        "wrong": wrong,
        "seen": sorted(seen),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
