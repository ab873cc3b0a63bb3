"""The reconciliation as people read it: how much agrees, and the worst of what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
from rich.console import Console
from rich.text import Text

from pipeline.fitting import print_fitting
from pipeline.lake import engine
from pipeline.lake.schemas import RECONCILIATION
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.messages import count
from pipeline.terminal import printable

_NUMBERS: Final = {"comparisons", "reported", "observed", "difference"}
_EXPENDABLE: Final = ("comparisons", "observed", "reported")
"""Columns that a narrow terminal does without: what differs, of whom and why stays."""


class NothingReconciledError(Exception):
    """No day of the window is reconciled. The message says what to run."""


def print_reconciliation(
    root: Path,
    first: date | None,
    last: date | None,
    limit: int,
    out: Console,
    on_damage: Callable[[str], None] = lambda _: None,
) -> None:
    """Print the summary and the `limit` worst differences of the reconciled days in the window.

    `on_damage` gets a sentence for each damaged file, which is left out. NothingReconciledError
    where there is none.
    """
    lake = Lake(root)
    seen = Snapshot(lake, names={RECONCILIATION.name})
    for warning in seen.warnings:
        on_damage(warning)
    days = [
        day
        for day in seen.days(RECONCILIATION.name)
        if (first is None or first <= day) and (last is None or day <= last)
    ]
    if not days:
        window = "" if first is None else f" --start {first}"
        window += "" if last is None else f" --end {last + timedelta(days=1)}"
        raise NothingReconciledError(
            f"no such day is reconciled yet: set MKA1_API_KEYS, and run `mka1-usage run{window}`"
        )
    with closing(engine.connect(lake)) as con:
        counted = summary(con, seen, days)
        differences = worst(con, seen, days, limit)
    whole = f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"
    _print(out, f"Reported and observed, {whole}", counted)
    if differences.num_rows:
        _print(out, f"The worst: {count(differences.num_rows, 'difference')}", differences)
    else:
        out.print("Everything that can be derived is as reported.", highlight=False)


def worst(
    con: duckdb.DuckDBPyConnection, snapshot: Snapshot, days: Iterable[date], limit: int
) -> pa.Table:
    """The rows that neither match nor are out of reach: the unexplained first, then the largest."""
    _bind(con, snapshot, days)
    query = engine.sql("reconciliation_worst")
    return con.sql(query, params={"at_most": limit}).to_arrow_table()


def summary(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, days: Iterable[date]) -> pa.Table:
    """How many comparisons of each measure fell into each class, and what they come to."""
    _bind(con, snapshot, days)
    return con.sql(engine.sql("reconciliation_summary")).to_arrow_table()


def _bind(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, days: Iterable[date]) -> None:
    files = snapshot.files(RECONCILIATION.name, days)
    engine.bind(con, {RECONCILIATION.name: (RECONCILIATION, files)})


def _print(out: Console, title: str, rows: pa.Table) -> None:
    cells = [[_cell(value) for value in row.values()] for row in rows.to_pylist()]
    print_fitting(out, title, _NUMBERS, rows.schema.names, cells, _EXPENDABLE)
    out.print()


def _cell(value: object) -> Text:
    """As text: an id may hold what rich would take for markup."""
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, int):
        return Text(f"{value:,}")
    return Text(f"{value:%Y-%m-%d}" if isinstance(value, date) else printable(str(value)))
