"""DuckDB as a pure function from Parquet files to rows: connections in memory, views, `sql/`."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import duckdb

from pipeline.lake.schemas import Dataset

T = TypeVar("T")

_LOOK_UP_EVERY: Final = 0.2
"""Seconds. A wait without an end is not woken where the signal of Ctrl-C reaches another thread."""

_PACKAGE = Path(__file__).parent.parent


@cache
def sql(name: str) -> str:
    """The text of `sql/<name>.sql`: beside the package in a checkout, inside it when installed."""
    for folder in (_PACKAGE.parent / "sql", _PACKAGE / "sql"):
        path = folder / f"{name}.sql"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError(f"the query sql/{name}.sql is missing from this installation")


def connect(
    scratch: Path | None = None, *, threads: int | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection in UTC; what outgrows its memory limit spills into `scratch`.

    Without `scratch` it is one of a database that all of the process share, with one limit: to
    start a database takes longer than most queries. Only what is temporary is a connection's own.
    """
    if scratch is None:
        return _shared(os.getpid(), threads).cursor()
    return _database(scratch, threads)


@cache
def _shared(_process: int, threads: int | None) -> duckdb.DuckDBPyConnection:
    """The database of this process: in one that was forked, its parent's has no threads."""
    return _database(None, threads)


def _database(scratch: Path | None, threads: int | None) -> duckdb.DuckDBPyConnection:
    alias = None
    if scratch is not None and "\\" in str(scratch.absolute()):
        alias = Path(tempfile.mkdtemp(prefix="mka1-usage-")) / "scratch"
        alias.symlink_to(scratch.absolute())
    config: dict[str, Any] = {
        "threads": threads or os.cpu_count() or 1,
        "memory_limit": "1GB",
        "preserve_insertion_order": True,
        "temp_directory": str(alias or scratch or ""),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_file_cache": False,  # a file's bytes are its own, also in the same second
    }
    con = duckdb.connect(":memory:", config=config)
    if alias is not None:
        weakref.finalize(con, shutil.rmtree, alias.parent, ignore_errors=True)
    con.execute("SET GLOBAL TimeZone = 'UTC'")  # for its cursors too
    return con


@contextmanager
def openable(database: Path) -> Iterator[Path]:
    """A database file as DuckDB can open it to read: a copy of it where its own path won't do.

    A backslash in a path is a character of a name to everybody else, and a separator to DuckDB.
    """
    if "\\" not in os.path.realpath(database):
        yield database
        return
    with tempfile.TemporaryDirectory(prefix="mka1-usage-") as folder:
        yield Path(shutil.copyfile(database, Path(folder) / database.name))


@contextmanager
def building(beside: Path) -> Iterator[Path]:
    """A folder for a new database file, gone at the end; in `beside` where DuckDB can create one.

    It can't where the path has a question mark or a backslash in it.
    """
    fits = not {"?", "\\"}.intersection(os.path.realpath(beside))
    place = beside if fits else None
    with tempfile.TemporaryDirectory(prefix="mka1-usage-", dir=place) as folder:
        yield Path(folder)


def at_once(work: Callable[[duckdb.DuckDBPyConnection, T], None], todo: Iterable[T]) -> None:
    """Do `work` on each of `todo`, as many at once as there are cores.

    Each has a database of one thread, with a limit of memory of its own: DuckDB shares out row
    groups, of which a day has too few, so days side by side take near half the time of one after
    the other on all cores. What fails keeps none of the others from being done; then the error of
    the first that failed is raised.
    """
    at_most = os.cpu_count() or 1
    idle: SimpleQueue[duckdb.DuckDBPyConnection] = SimpleQueue()

    def on_one(task: T) -> None:
        con = idle.get_nowait()  # there are as many connections as threads
        try:
            work(con, task)
        finally:
            idle.put(con)

    with ExitStack() as stack:
        for _ in range(at_most):
            idle.put(stack.enter_context(closing(_database(None, threads=1))))
        pool = stack.enter_context(ThreadPoolExecutor(at_most))
        try:
            running = [pool.submit(on_one, task) for task in todo]
            while wait(running, timeout=_LOOK_UP_EVERY).not_done:
                pass
            for done in running:
                done.result()
        finally:  # an interrupt: what has not begun never does
            pool.shutdown(cancel_futures=True)


def bind(
    con: duckdb.DuckDBPyConnection, inputs: Mapping[str, tuple[Dataset | None, Iterable[Path]]]
) -> None:
    """Make each input a view over its files; a dataset without files is an empty table."""
    for name, (dataset, files) in inputs.items():
        con.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {scan(dataset, files)}')


def rollup(
    con: duckdb.DuckDBPyConnection,
    seconds: int,
    narrower: Dataset,
    files: Iterable[Path],
    query: str = "rollup",
) -> duckdb.DuckDBPyRelation:
    """Buckets of an hour or a day, in seconds, from the files of a dataset of narrower ones."""
    bind(con, {"narrower": (narrower, files)})
    return con.sql(sql(query), params={"seconds": seconds})


def scan(dataset: Dataset | None, files: Iterable[Path]) -> str:
    """A SELECT over Parquet files, with the contract's columns by name where one is given."""
    paths = ", ".join(literal(no_glob(path)) for path in files)
    if paths:
        columns = ", ".join(column.name for column in dataset.columns) if dataset else "*"
        # A folder of the path that is called `user_id=5` is no column.
        return f"SELECT {columns} FROM read_parquet([{paths}], hive_partitioning = false)"
    if dataset is None:
        raise ValueError("an input without files needs a dataset to take its columns from")
    return empty(dataset)


def empty(dataset: Dataset) -> str:
    """A SELECT of the dataset's columns, typed, without a row."""
    types = {"timestamp[us, tz=UTC]": "TIMESTAMPTZ", "int64": "BIGINT", "string": "VARCHAR"}
    columns = ", ".join(
        f"CAST(NULL AS {types[str(column.type)]}) AS {column.name}" for column in dataset.columns
    )
    return f"SELECT {columns} WHERE 1 = 0"


def no_glob(path: Path) -> str:
    """The absolute path as DuckDB's file functions take it: it stands for itself, no pattern."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path.absolute()))


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
