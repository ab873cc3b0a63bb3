"""Ad-hoc SQL over the published tables, read-only.

A query is run as a subquery, `FROM (query)`. That is what makes it read-only: DuckDB takes no
statement but a query there, and refuses one whose WITH clause writes (`WITH x AS (COPY …)`).

It sees the lake, and the folders that whoever runs it allows. Not the whole home folder: Dagster
keeps its storage there. A link in such a folder is followed to where it points only if that is
allowed too. One thing gets around it: a link to a folder, followed by `..`. So a folder in which
those who write the queries can make links is none to allow.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeVar

import duckdb
import duckdb_cli
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.catalog import (
    DAMAGED,
    build,
    difference,
    names_of,
    prices_of,
    shows_another_lake,
)
from pipeline.lake.engine import literal, openable
from pipeline.lake.shortage import shortage
from pipeline.lake.snapshot import Damage, Snapshot, left_out
from pipeline.lake.store import Lake
from pipeline.query.result_table import result_table
from pipeline.settings import without_secrets
from pipeline.terminal import printable

T = TypeVar("T")
Format = Literal["csv", "json", "parquet"]

_OPTIONS: Final[dict[Format, str]] = {
    "csv": "FORMAT csv, HEADER true",
    "json": "FORMAT json, ARRAY true",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
# PIVOT without a list of values is several statements to DuckDB, and still a query.
_QUERIES: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)
_WIDE: Final = {"HUGEINT", "UHUGEINT"}
_OF_THE_QUERY: Final = (
    *(duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException),
    *(duckdb.ConversionException, duckdb.OutOfRangeException),
)
"""What DuckDB raises for what is asked, whatever the files are like."""
_BLANKS: Final = "".join(
    char for char in map(chr, range(1, 0x10000)) if char.isspace() or char in "\u180e\u200b\ufeff"
)
FORMULA: Final = rf"^([\t\r\n]|[\x00-\x20\x7f-\xa0{_BLANKS}]*[=+@＝＋－＠-])"
"""What a text begins with that a spreadsheet computes instead of showing it (OWASP, "CSV
Injection"): also behind blanks and control characters, which some take away, and as wide as Chinese
characters."""
_NO_TEXT: Final = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint", "bignum"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    *("decimal", "float", "double", "boolean", "uuid", "date", "interval"),
}
"""DuckDB's types whose values are no text, whoever made them; times beside."""


class QueryError(Exception):
    """The query is not one that can be run; the message is for the person who wrote it.

    `of_files`: a file that can't be read may be the reason.
    """

    def __init__(self, message: str, *, of_files: bool = False) -> None:
        super().__init__(message)
        self.of_files = of_files


class CatalogError(Exception):
    """The catalog can't be asked. One line, with what to do."""


@contextmanager
def as_published(
    catalog: Path,
    lake: Lake,
    on_changed: Callable[[str], None] = lambda _: None,
    on_damage: Callable[[str], None] = lambda _: None,
    prices: pa.Table | None = None,
    names: pa.Table | None = None,
) -> Iterator[Path]:
    """The catalog, or one like it in a temporary folder: where a client has changed it, and where
    its prices and names are not `prices` and `names`, which are those of now.

    `on_changed` gets how it differs from what was published. A query is to be answered from what
    was published, and asking must not change what the next run sets aside. `on_damage` gets a
    sentence for each damaged file that it leaves out.
    """
    changed = difference(lake, catalog)
    if changed is None and _has_written(catalog, prices, names):
        for one in _left_out(catalog):
            on_damage(one)
        yield catalog
        return
    if changed is not None:
        on_changed(changed)
    with built(Snapshot(lake), on_damage, prices, names) as other:
        yield other


def _has_written(catalog: Path, prices: pa.Table | None, names: pa.Table | None) -> bool:
    """Whether prices and names in a catalog are these, so that it need not be built anew."""
    return _are_equal(prices_of(catalog), prices) and _are_equal(names_of(catalog), names)


def _are_equal(held: pa.Table | None, written: pa.Table | None) -> bool:
    if written is None or not written.num_rows:
        return held is None or not held.num_rows
    return held is not None and held.equals(written)


@contextmanager
def built(
    snapshot: Snapshot,
    on_damage: Callable[[str], None],
    prices: pa.Table | None = None,
    names: pa.Table | None = None,
) -> Iterator[Path]:
    """A catalog of what a snapshot shows, with prices and names, in a temporary folder."""
    for one in snapshot.warnings:
        on_damage(one)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "usage.duckdb"
        build(snapshot, other, prices, names)
        yield other


@contextmanager
def without_damage(catalog: Path, lake: Lake, on_damage: Callable[[str], None]) -> Iterator[Path]:
    """The catalog, or one like it that leaves out what has been damaged since it was built.

    For the shell, whose queries nobody asks again.
    """
    snapshot = Snapshot(lake)
    if set(snapshot.warnings) <= set(_left_out(catalog)):
        yield catalog
        return
    with built(snapshot, on_damage, prices_of(catalog), names_of(catalog)) as other:
        yield other


def _left_out(catalog: Path) -> list[str]:
    """A sentence for each damaged file that a catalog leaves out, by its own account."""
    try:
        with (
            openable(catalog) as readable,
            closing(duckdb.connect(str(readable), read_only=True)) as con,
        ):
            rows = con.execute(f"SELECT day, path, problem FROM {DAMAGED} ORDER BY ALL").fetchall()
    except duckdb.Error:  # opening it to query says so; an older one has no such table
        return []
    return [left_out(Damage(day, Path(path), problem)) for day, path, problem in rows]


def over_the_rest(
    catalog: Path, lake: Lake, ask: Callable[[Path], None], on_damage: Callable[[str], None]
) -> None:
    """Ask a catalog; and over what is left, where a file has been damaged since it was built.

    `ask` must have written nothing where it raises. `on_damage` gets each damaged file.
    """
    try:
        ask(catalog)
    except QueryError as error:
        snapshot = _without_damage(lake, error)
        if snapshot is None:
            raise
        with built(snapshot, on_damage, prices_of(catalog), names_of(catalog)) as other:
            ask(other)


def _without_damage(lake: Lake, error: QueryError) -> Snapshot | None:
    """The lake without the files that make a query fail; None where none is damaged."""
    if not error.of_files:
        return None
    for thorough in (False, True):  # most damage shows at once
        snapshot = Snapshot(lake, thorough=thorough)
        if snapshot.damage:
            return snapshot
    return None


@contextmanager
def opened(
    catalog: Path, lake: Lake, allowed: Sequence[Path] = ()
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A connection to the catalog that reaches the lake, `allowed` and a temporary folder, which
    comes with it, and no other file. It has the memory that the lake says, and then the disk.

    CatalogError where its views are of another lake, whose files it would not reach.
    """
    with engine.spill_folder(lake) as scratch:
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **_limits(lake, scratch),
        }
        with openable(catalog) as readable, _complaints():
            con = duckdb.connect(str(readable), read_only=True, config=config)
        with con:
            # The catalog names the lake as a pattern, which DuckDB holds against the list as it is.
            reached = [str(folder.absolute()) for folder in (lake.root, *allowed)]
            folders = {*reached, *map(glob.escape, reached), str(scratch)}
            con.execute("SET TimeZone = 'UTC'")
            con.execute(f"SET allowed_directories = [{', '.join(map(literal, sorted(folders)))}]")
            con.execute("SET enable_external_access = false")
            con.execute("SET lock_configuration = true")
            if shows_another_lake(con, lake):
                raise CatalogError(
                    f"{catalog} shows another lake than {lake.root}: was it moved? Any run builds "
                    "it anew: `mka1-usage run`"
                )
            yield con, scratch


def _limits(lake: Lake, scratch: Path) -> dict[str, str | int]:
    """DuckDB's settings for the memory that queries may use, and where they go on with the disk."""
    memory = engine.memory_of(lake)
    return {
        "memory_limit": f"{memory}B",
        "threads": engine.threads_of(memory),
        "temp_directory": str(scratch),
    }


def shell(catalog: Path, lake: Lake) -> None:
    """DuckDB's own shell on the catalog, read-only, until the user leaves it.

    It has history and completion. What is typed there is confined to nothing: it may read and write
    files as the user may. CatalogError as for `opened`.
    """
    with opened(catalog, lake):
        pass
    program = Path(duckdb_cli.__file__).with_name("duckdb")
    settings = ["SET TimeZone = 'UTC'", ".prompt 'usage> ' '    -> '"]
    # Ctrl-C is the shell's: it cancels a query there.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with openable(catalog) as readable, engine.spill_folder(lake) as scratch:
            limits = _limits(lake, scratch).items()
            settings += [f"SET {name} = {literal(str(value))}" for name, value in limits]
            options = [word for setting in settings for word in ("-cmd", setting)]
            command = [str(program), "-readonly", *options, str(readable)]
            subprocess.run(command, check=False, env=without_secrets(os.environ))
    finally:
        signal.signal(signal.SIGINT, before)


def show(catalog: Path, lake: Lake, query: str, width: int, allowed: Sequence[Path] = ()) -> None:
    """Print the query's result as a table of text, at most `width` characters wide.

    Columns that do not fit are named below it.
    """
    with opened(catalog, lake, allowed) as (con, _):
        asked = _subquery(con, query)
        with _complaints():
            shown = _interruptibly(con, lambda: result_table(con, asked, query, width))
        print(printable(shown), end="")


def export(
    catalog: Path, lake: Lake, query: str, form: Format, out: BinaryIO, allowed: Sequence[Path] = ()
) -> None:
    """Write the query's result to `out`, whole or not at all.

    In CSV a text that a spreadsheet would take for a formula gets a `'` before it, column names
    too; JSON and Parquet have every text as it is.

    Sums of counts, 128 bits wide in DuckDB, are 64-bit integers in Parquet, as in the data
    contract: it has no wider ones, and DuckDB would round them. QueryError if one does not fit.
    """
    with opened(catalog, lake, allowed) as (con, scratch):
        asked = _subquery(con, query)
        scratch.mkdir(mode=0o700, exist_ok=True)
        _copy(con, asked, form, scratch / "result", out)


def _copy(
    con: duckdb.DuckDBPyConnection, asked: str, form: Format, path: Path, out: BinaryIO
) -> None:
    with _complaints():
        if form == "parquet":
            asked = _narrowed(con.sql(asked), asked)
        if form == "csv":
            asked = inert(con.sql(asked), asked)
        copy = f"COPY ({asked}) TO {literal(str(path))} ({_OPTIONS[form]})"
        _interruptibly(con, lambda: con.execute(copy))
    with path.open("rb") as result:
        shutil.copyfileobj(result, out)


def show_rows(rows: pa.Table, width: int, query: str) -> None:
    """Print rows that another engine has found for a query, as `show` does."""
    with closing(engine.connect()) as con:
        con.register("answer", rows)
        print(printable(result_table(con, "FROM answer", query, width)), end="")


def export_rows(rows: pa.Table, form: Format, out: BinaryIO) -> None:
    """Write rows that another engine has found, as `export` does."""
    with closing(engine.connect()) as con, tempfile.TemporaryDirectory() as folder:
        con.register("answer", rows)
        _copy(con, "FROM answer", form, Path(folder) / "result", out)


def _subquery(con: duckdb.DuckDBPyConnection, query: str) -> str:
    """The one query in `query` as a subquery; QueryError where it is anything else."""
    try:
        encoded = query.encode()
    except UnicodeEncodeError:
        raise QueryError("the query is not UTF-8 text") from None
    with _complaints():
        statements = con.extract_statements(query)
    if len(statements) != 1:
        raise QueryError(f"one query is wanted, {len(statements)} were given")
    if statements[0].type not in _QUERIES:
        raise QueryError(
            f"{statements[0].type.name} is not a query: the tables can be read (SELECT, FROM, "
            "DESCRIBE, SUMMARIZE, SHOW), not changed"
        )
    words = [at for at, kind in duckdb.tokenize(query) if kind != duckdb.token_type.comment]
    last = words[-1]  # in bytes: the tokenizer counts those
    single = encoded[:last].decode() if encoded[last : last + 1] == b";" else query
    # The line end keeps a trailing comment of the query from swallowing the bracket.
    return f"FROM ({single}\n)"


def _narrowed(relation: duckdb.DuckDBPyRelation, asked: str) -> str:
    """`asked` with its 128-bit integers cast to 64 bits."""
    casts = [
        f"CAST({_name(column)} AS BIGINT) AS {_name(column)}"
        for column, kind in zip(relation.columns, relation.types, strict=True)
        if str(kind) in _WIDE
    ]
    return f"SELECT * REPLACE ({', '.join(casts)}) {asked}" if casts else asked


def inert(relation: duckdb.DuckDBPyRelation, asked: str) -> str:
    """`asked`, from which `relation` was made, without a text or a column name that begins like a
    formula."""
    columns: list[str] = []
    for column, kind in zip(relation.columns, relation.types, strict=True):
        cell, header = _name(column), f"'{column}" if re.match(FORMULA, column) else column
        if kind.id not in _NO_TEXT and not kind.id.startswith("time"):
            # Whatever else is text in the end: an enum, a union, bytes.
            text = f"CAST({cell} AS VARCHAR)"
            begins = f"regexp_matches({text}, {literal(FORMULA)})"
            cell = f"CASE WHEN {begins} THEN '''' || {text} ELSE {text} END"
        columns.append(f"{cell} AS {_name(header)}")
    return f"SELECT {', '.join(columns)} {asked}"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _interruptibly(con: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Do `work` in a thread, so that Ctrl-C is noticed in this one: DuckDB itself does not.

    KeyboardInterrupt is raised once the query has ended, never while it is under way.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # where Ctrl-C does not come
    asked_to_stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked_to_stop.set())
    try:
        with ThreadPoolExecutor(1) as thread:
            pending = thread.submit(work)
            while wait([pending], timeout=0.1).not_done:
                if asked_to_stop.is_set():
                    con.interrupt()  # forgotten if it comes before the query: so again and again
    finally:
        signal.signal(signal.SIGINT, before)
    if asked_to_stop.is_set():
        raise KeyboardInterrupt
    return pending.result()


@contextmanager
def _complaints() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        said = shortage(error)
        of_files = said is None and not isinstance(error, _OF_THE_QUERY)
        raise QueryError(said or str(error), of_files=of_files) from None
