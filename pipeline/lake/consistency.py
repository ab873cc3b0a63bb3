"""Do the tables agree with the contract and with each other?

Belongs here: the checks that need no API, as functions from files to violations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.files import ContractError, check_contract, covered
from pipeline.lake.schemas import (
    DATASETS,
    METERS,
    OBSERVED,
    RAW_METERS,
    RAW_USAGE,
    TOKENS,
    USAGE,
    Dataset,
)
from pipeline.lake.slices import in_slices
from pipeline.timeline import SECONDS, Window

Files = Mapping[str, Iterable[Path]]
"""Files per dataset name."""

_SHOWN: Final = 3
GROUPED: Final = tuple(
    dataset.name for family in (USAGE, OBSERVED, TOKENS, METERS) for dataset in family.values()
)
"""Tables of which a bucket and a group have one row."""
COUNTED: Final = (RAW_USAGE.name, RAW_METERS.name, *GROUPED)
"""Tables of counts, of which none is below zero."""
_GROUPS: Final = ("endpoint", "user_id", "api_key_id", "model", "measure")
_IDS: Final = {
    "conversations": "CAST(NULL AS VARCHAR)",
    "responses": "CAST(NULL AS VARCHAR)",
    "items": "conversation_id",
    "item_contents": "conversation_id",
}
"""Tables of records, and what their ids are unique within."""


class ConsistencyError(Exception):
    """A day's tables contradict each other or the contract. Nothing of the day was published."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: rows that should not be there. `table` has the violations."""

    check: str
    dataset: str
    table: pa.Table

    def __str__(self) -> str:
        rows = "; ".join(str(row) for row in self.table.slice(0, _SHOWN).to_pylist())
        more = f" and {self.table.num_rows - _SHOWN} more" if self.table.num_rows > _SHOWN else ""
        return f"{self.check} of {self.dataset}: {rows}{more}"


def schemas(files: Files) -> list[str]:
    """A sentence for each file that is missing, unreadable or without the contract's columns."""
    found: list[str] = []
    for name, paths in files.items():
        for path in paths:
            try:
                check_contract(DATASETS[name], path)
            except (ContractError, OSError, pa.ArrowException) as error:
                found.append(f"{name}, {path}: {error}")
    return found


def grain(con: duckdb.DuckDBPyConnection, files: Files) -> list[Finding]:
    """Tables of buckets with two rows for one bucket and group."""
    found: list[Finding] = []
    for name in GROUPED:
        if name in files:
            names = DATASETS[name].schema.names
            columns = ", ".join(
                group if group in names else f"CAST(NULL AS VARCHAR) AS {group}"
                for group in _GROUPS
            )
            checked = f"SELECT start_time, {columns} FROM table_checked"
            tables: list[pa.Table] = []
            for _ in in_slices(con, {"table_checked": (DATASETS[name], files[name])}, 1):
                con.execute(f"CREATE OR REPLACE TEMP VIEW checked AS {checked}")
                tables.append(con.sql(engine.sql("check_grain")).to_arrow_table())
            found += _finding("check_grain", name, tables)
    return found


def ids(con: duckdb.DuckDBPyConnection, files: Files) -> list[Finding]:
    """Tables of records in which an id stands more than once, on one day or on several.

    `files` has all days: two rows of one id are mostly on two.
    """
    found: list[Finding] = []
    for name, within in _IDS.items():
        if name in files:
            rows = engine.scan(DATASETS[name], files[name])
            con.execute(
                f"CREATE OR REPLACE TEMP VIEW checked AS "
                f"SELECT {within} AS conversation_id, id FROM ({rows})"
            )
            found += _violations(con, "check_ids", name)
    return found


def counts(con: duckdb.DuckDBPyConnection, files: Files) -> list[Finding]:
    """Tables with a count below zero."""
    found: list[Finding] = []
    for name, paths in files.items():
        con.execute(f"CREATE OR REPLACE TEMP VIEW checked AS {_counted(name, paths)}")
        found += _violations(con, "check_counts", name)
    return found


def _counted(name: str, paths: Iterable[Path]) -> str:
    """A table's counts, one a row."""
    scanned = engine.scan(DATASETS[name], paths)
    if "measure" in DATASETS[name].schema.names:
        return f"SELECT start_time, user_id, api_key_id, measure, value FROM ({scanned})"
    counts = [column.name for column in DATASETS[name].columns if column.type == pa.int64()]
    return " UNION ALL ".join(
        f"SELECT start_time, user_id, api_key_id, {engine.literal(count)} AS measure, "
        f"{count} AS value FROM ({scanned})"
        for count in counts
    )


def totals(con: duckdb.DuckDBPyConnection, files: Files) -> list[Finding]:
    """Days whose totals, or whose windows, differ between raw_usage, 1m, 1h and 1d.

    `files` has all four. A window that one of them lacks is a day that was not loaded at every
    width, or not in one go; its totals alone would not show that, if it is a day without usage.
    """
    engine.bind(con, {name: (DATASETS[name], paths) for name, paths in files.items()})
    return [*_windows(files), *_violations(con, "check_totals", "the usage tables")]


def rollups(con: duckdb.DuckDBPyConnection, files: Files) -> list[Finding]:
    """Rows that are not the sums of those of the next finer table, by bucket, user and key.

    `files` has raw_usage and all widths.
    """
    return _add_up(con, files, (RAW_USAGE, *USAGE.values()), "check_rollup")


def meters(con: duckdb.DuckDBPyConnection, files: Files) -> list[Finding]:
    """The same of meters, by endpoint and all groups; `files` has raw_meters and all widths."""
    return _add_up(con, files, (RAW_METERS, *METERS.values()), "check_meters")


def _add_up(
    con: duckdb.DuckDBPyConnection, files: Files, tables: Sequence[Dataset], check: str
) -> list[Finding]:
    """What a check finds of each table and the next finer one, rows as served first."""
    found: list[Finding] = []
    for (finer, coarser), seconds in zip(pairwise(tables), SECONDS.values(), strict=True):
        inputs = {"finer": (finer, files[finer.name]), "coarser": (coarser, files[coarser.name])}
        tables = [
            con.sql(engine.sql(check), params={"width": seconds}).to_arrow_table()
            for _ in in_slices(con, inputs, seconds)
        ]
        found += _finding(check, coarser.name, tables)
    return found


def meter_totals(con: duckdb.DuckDBPyConnection, files: Files) -> list[Finding]:
    """Measures of meters whose totals differ between raw_meters, 1m, 1h and 1d, of one day."""
    tables = (RAW_METERS, *METERS.values())
    engine.bind(con, {table.name: (table, files[table.name]) for table in tables})
    return _violations(con, "check_meter_totals", "the tables of meters")


def require(con: duckdb.DuckDBPyConnection, files: Files) -> None:
    """Raise ConsistencyError unless the files are the contract's and their totals agree.

    That is what a day must pass to be published. The other checks follow over what is published:
    what they look for, the queries and the reading of pages rule out.
    """
    found: list[object] = [*schemas(files)]
    if not found:  # the totals need the columns
        found += totals(con, files)
    if found:
        raise ConsistencyError("; ".join(map(str, found)))


def _windows(files: Files) -> list[Finding]:
    """Windows that some datasets have a file for and others have not."""
    windows = {name: {covered(path).window for path in paths} for name, paths in files.items()}
    missing = [
        {"window": str(window), "missing_from": name}
        for window in sorted(set[Window]().union(*windows.values()))
        for name in windows
        if window not in windows[name]
    ]
    table = pa.Table.from_pylist(missing)
    return [Finding("check_windows", "the usage tables", table)] if missing else []


def _violations(con: duckdb.DuckDBPyConnection, check: str, dataset: str) -> list[Finding]:
    return _finding(check, dataset, [con.sql(engine.sql(check)).to_arrow_table()])


def _finding(check: str, dataset: str, tables: Sequence[pa.Table]) -> list[Finding]:
    """What a check found, in one table or in several parts of it; nothing where no part has a row.

    Of each part, the first violations.
    """
    table = pa.concat_tables(tables)
    return [Finding(check, dataset, table)] if table.num_rows else []
