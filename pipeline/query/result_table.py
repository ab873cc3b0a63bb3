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
from pipeline.terminal import printable

_HELD: Final = "result_of_query"
_MOST: Final = 10_001
"""Rows that are held: one more than DuckDB counts for a table, which then says that there are
more."""
_LONGEST: Final = 40
"""Characters of a value that is told with a column that is left out."""
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

    constant = _constant(con, columns)
    expendable = by_importance(columns, constant, named)
    stay, hidden = fitting(columns, expendable, lambda stay: _is_whole(drawn(stay), stay, width))
    if not hidden:
        return drawn(stay)
    said = [f"{name} ({constant[name]})" if constant.get(name) else name for name in hidden]
    words = textwrap.wrap(left_out(said, "--format csv"), width - 2, break_on_hyphens=False)
    return drawn(stay).rstrip("\n") + textwrap.indent("\n".join(["", *words, "", ""]), "  ")


def _drawn(con: duckdb.DuckDBPyConnection, asked: str, width: int) -> str:
    shown = StringIO()
    with redirect_stdout(shown):
        con.sql(asked).show(max_width=width)
    return shown.getvalue()


def _is_whole(table: str, columns: Sequence[str], width: int) -> bool:
    """Whether a table of at most `width` shows all of these columns, and their names uncut.

    DuckDB draws 80 characters where it is given fewer.
    """
    frame, names = [*table.splitlines(), "", ""][:2]
    return (
        len(frame) <= width
        and not _HIDES.search(table)
        and names.count("…") <= "".join(columns).count("…")
    )


def _constant(con: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> dict[str, str]:
    """The columns that hold the same in every row, and what that is: empty where it is long."""
    figures = [
        f"count({name}), count(DISTINCT {name}), any_value({name})::VARCHAR"
        for name in map(_quoted, columns)
    ]
    try:
        row = con.execute(f"SELECT count(*), {', '.join(figures)} FROM {_HELD}").fetchall()[0]
    except duckdb.Error:  # of a type that can't be compared
        return {}
    rows, found = row[0], dict[str, str]()
    for name, there, different, value in zip(columns, row[1::3], row[2::3], row[3::3], strict=True):
        if there == 0 or (there == rows and different == 1):
            text = "NULL" if there == 0 else printable(value)
            found[name] = f"{text} in all rows" if rows > 1 and len(text) <= _LONGEST else ""
    return found


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
