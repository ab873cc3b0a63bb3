"""Ad-hoc SQL over the published tables, read-only.

Belongs here: opening the catalog so that a query can read the lake and nothing else, and writing
a result in a format. Does not belong here: queries of the project's own (`sql/`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import duckdb

from pipeline.lake.engine import literal

Format = Literal["csv", "json", "parquet"]

_OPTIONS: dict[Format, str] = {
    "csv": "FORMAT csv, HEADER true",
    "json": "FORMAT json, ARRAY true",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}


class QueryError(Exception):
    """The query is not one that can be run; the message is DuckDB's own."""


@contextmanager
def opened(catalog: Path, lake: Path, scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the catalog that can read the lake and write to `scratch`, nothing else."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": str(scratch),
    }
    with duckdb.connect(str(catalog), read_only=True, config=config) as con:
        folders = ", ".join(literal(str(folder.absolute())) for folder in (lake, scratch))
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"SET allowed_directories = [{folders}]")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        yield con


def show(catalog: Path, lake: Path, query: str, width: int) -> None:
    """Print the query's result as a table of text, at most `width` characters wide."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        opened(catalog, lake, Path(scratch)) as con,
        _complaints(),
    ):
        relation = con.sql(_single(con, query))
        if relation is None:
            raise QueryError("the statement has no result: only queries can be asked here")
        relation.show(max_width=width)


def export(catalog: Path, lake: Path, query: str, form: Format, out: BinaryIO) -> None:
    """Write the query's result to `out`, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder, opened(catalog, lake, Path(folder)) as con:
        path = Path(folder) / "result"
        with _complaints():
            # The line end keeps a trailing comment of the query from swallowing the bracket.
            con.execute(
                f"COPY ({_single(con, query)}\n) TO {literal(str(path))} ({_OPTIONS[form]})"
            )
        with path.open("rb") as result:
            shutil.copyfileobj(result, out)


def _single(con: duckdb.DuckDBPyConnection, query: str) -> str:
    """The one statement in `query`, without the semicolon and comments that may follow it."""
    statements = con.extract_statements(query)
    if len(statements) != 1:
        raise QueryError(f"one query is wanted, {len(statements)} were given")
    encoded = query.encode()  # the tokenizer counts bytes
    words = [at for at, kind in duckdb.tokenize(query) if kind != duckdb.token_type.comment]
    last = words[-1]
    return encoded[:last].decode() if encoded[last : last + 1] == b";" else query


@contextmanager
def _complaints() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise QueryError(str(error)) from None
