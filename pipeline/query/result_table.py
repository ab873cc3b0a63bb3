"""The result of a query as a table of text, as DuckDB draws it, of the columns that matter most.

Where all do not fit, DuckDB would leave out those in the middle, which are the ids and measures.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Final

import duckdb

from pipeline.fitting import by_importance, fitting, left_out

_HELD: Final = "result_of_query"
_MOST: Final = 10_001
"""Rows that are held: one more than DuckDB counts for a table, which then says that there are
more."""
_HIDES: Final = re.compile(r"columns \(\d+ shown\)\s*\Z")
"""What DuckDB writes below a table of which it leaves out columns."""


def result_table(con: duckdb.DuckDBPyConnection, asked: str, query: str, width: int) -> str:
    """What `asked`, a SELECT, returns as a table of at most `width` characters a line.

    Columns that `query`, as it was written, names are the last to be left out.
    """
    try:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {_HELD} AS {asked} LIMIT {_MOST}")
    except duckdb.Error:  # no table can hold it; or it fails in any case, and says why here
        return _drawn(con, asked, width)
    columns = con.table(_HELD).columns
    named = set(re.findall(r"\w+", query))

    def drawn(stay: Sequence[str]) -> str:
        return _drawn(con, f"SELECT {', '.join(map(_quoted, stay))} FROM {_HELD}", width)

    expendable = by_importance(columns, _constant(con, columns), named)
    stay, hidden = fitting(columns, expendable, lambda stay: not _HIDES.search(drawn(stay)))
    if not hidden:
        return drawn(stay)
    words = textwrap.wrap(left_out(hidden, "--format csv"), width - 2, break_on_hyphens=False)
    return drawn(stay).rstrip("\n") + textwrap.indent("\n".join(["", *words, "", ""]), "  ")


def _drawn(con: duckdb.DuckDBPyConnection, asked: str, width: int) -> str:
    shown = StringIO()
    with redirect_stdout(shown):
        con.sql(asked).show(max_width=width)
    return shown.getvalue()


def _constant(con: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> set[str]:
    """The columns that hold the same in every row."""
    counts = [f"count({_quoted(name)}), count(DISTINCT {_quoted(name)})" for name in columns]
    try:
        row = con.execute(f"SELECT count(*), {', '.join(counts)} FROM {_HELD}").fetchall()[0]
    except duckdb.Error:  # of a type that can't be compared
        return set()
    rows, pairs = row[0], zip(row[1::2], row[2::2], strict=True)
    return {
        name
        for name, (there, different) in zip(columns, pairs, strict=True)
        if there == 0 or (there == rows and different == 1)
    }


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
