"""DuckDB as a pure function from Parquet files to rows: connections in memory, views, `sql/`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from weakref import WeakSet

import duckdb

from pipeline.lake.schemas import Dataset
from pipeline.lake.store import Lake, spilling
from pipeline.memory import PER_THREAD, default_memory

T = TypeVar("T")

_LOOK_UP_EVERY: Final = 0.2
"""Seconds. A wait without an end is not woken where the signal of Ctrl-C reaches another thread."""

_INTERRUPTED_WITHIN: Final = 2.0
"""Seconds that queries have to end in, once they are interrupted: they take milliseconds."""
_BETWEEN: Final = 0.01
"""Seconds between two looks whether they have."""

_open: Final[list[_Database]] = []
"""The databases that connections share, to be closed when the process ends."""

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
    lake: Lake | None = None, *, threads: int | None = None, at_most: int | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection to this process's database, in memory and in UTC.

    The database may use the memory that `lake` says, or `at_most` bytes where that is less. What
    outgrows that goes to disk, to a folder in the lake, or to the system's temporary folder where
    the lake can't be written to. All connections with the same limits share one database: to start
    one takes longer than most queries. Only what is temporary is a connection's own.
    """
    memory = memory_of(lake) if at_most is None else min(at_most, memory_of(lake))
    return _shared(os.getpid(), threads, memory).connection(lake)


def memory_of(lake: Lake | None) -> int:
    """Bytes that all queries of this process may use together."""
    return (lake and lake.memory) or default_memory()


def threads_of(memory: int) -> int:
    """How many threads a database should have: one a core, where its memory is enough for that."""
    return max(1, min(os.cpu_count() or 1, memory // PER_THREAD))


def set_threads(con: duckdb.DuckDBPyConnection, lake: Lake, *, spare: int = 0) -> None:
    """Let the database of a connection use all its threads but `spare`, and one at least."""
    con.execute(f"SET GLOBAL threads = {max(1, threads_of(memory_of(lake)) - spare)}")


@cache
def _shared(_process: int, threads: int | None, memory: int) -> _Database:
    """The database of this process: in one that was forked, its parent's has no threads."""
    database = _Database(threads, memory)
    _open.append(database)
    return database


@atexit.register
def release() -> None:
    """Close the databases of this process that connections share, and remove what they spilled.

    So it ends, at the latest: queries that still run are interrupted. Whoever connects afterwards
    gets a new one.
    """
    for database in _open:
        database.close()
    _open.clear()
    _shared.cache_clear()


class _Database:
    """A database in memory, with a limit, and a folder to spill into: that of one lake at a time.

    DuckDB makes the folder when it needs it. What a killed process has left is removed with the
    staging folders.
    """

    def __init__(self, threads: int | None, memory: int) -> None:
        self._process = os.getpid()
        self._config = {"threads": threads or threads_of(memory), "memory_limit": f"{memory}B"}
        self._one_at_a_time = threading.Lock()
        self._folder = ExitStack()
        self._of_lake: Path | None = None
        self._used = ExitStack()  # folders into which queries that may still run have spilled
        self._con: duckdb.DuckDBPyConnection | None = None
        self._connections = WeakSet[duckdb.DuckDBPyConnection]()

    def connection(self, lake: Lake | None) -> duckdb.DuckDBPyConnection:
        """A connection whose queries spill into a folder of `lake`."""
        with self._one_at_a_time:
            if self._con is None:
                self._con = self._started(self._spill_into(lake))
            elif lake is not None and lake.root != self._of_lake:
                before = self._folder
                place = self._spill_into(lake)
                try:
                    self._con.execute(f"SET GLOBAL temp_directory = {literal(place)}")
                    before.close()
                except duckdb.Error:  # it has spilled into the other one
                    self._used.push(before)
                    self._con = self._started(place)
            connection = self._con.cursor()
            self._connections.add(connection)
            return connection

    def close(self) -> None:
        """End what still runs, and remove what was spilled.

        A process that was forked leaves it to the one that made it.
        """
        if os.getpid() == self._process:
            self._interrupt()
            self._folder.close()
            self._used.close()

    def _interrupt(self) -> None:
        """Close the database; a process that ended amid a query of a thread would be aborted."""
        until = time.monotonic() + _INTERRUPTED_WITHIN
        while self._con is not None and time.monotonic() < until:
            try:
                self._con.close()
            except duckdb.ResourceInUseException:
                for connection in self._connections:
                    connection.interrupt()
                time.sleep(_BETWEEN)
            else:
                self._con = None

    def _started(self, place: str) -> duckdb.DuckDBPyConnection:
        config: dict[str, Any] = {
            **self._config,
            "temp_directory": place,
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "enable_external_file_cache": False,  # a file's bytes are its own, in one second too
        }
        con = duckdb.connect(":memory:", config=config)
        con.execute("SET GLOBAL TimeZone = 'UTC'")  # for its cursors too
        return con

    def _spill_into(self, lake: Lake | None) -> str:
        """The path of a new folder to spill into, as DuckDB takes it."""
        self._folder, self._of_lake = ExitStack(), None if lake is None else lake.root
        return str(self._folder.enter_context(spill_folder(lake)))


@contextmanager
def spill_folder(lake: Lake | None) -> Iterator[Path]:
    """The path of a new folder to spill into, as DuckDB takes it: in the lake or, where that can't
    be written to or is not there yet, in the system's temporary folder."""
    with ExitStack() as stack:
        place: Path | None = None
        with suppress(OSError):
            if lake is not None and lake.root.is_dir():
                place = stack.enter_context(_without_backslash(stack.enter_context(spilling(lake))))
        if place is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mka1-usage-")))
        yield place


@contextmanager
def _without_backslash(folder: Path) -> Iterator[Path]:
    """The path of a folder that may not be there yet, by a link where DuckDB can't take its own."""
    if "\\" not in str(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mka1-usage-") as made:
        beside = Path(made) / "beside"
        beside.symlink_to(folder.parent)
        yield beside / folder.name


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


def at_once(
    lake: Lake, work: Callable[[duckdb.DuckDBPyConnection, T], None], todo: Sequence[T]
) -> None:
    """Do `work` on each of `todo`, as many at once as there are cores and memory for.

    Each has a database of its own, with its share of cores and memory: DuckDB shares out row
    groups, of which a day has too few, so days side by side take near half the time of one after
    the other on all cores. What fails keeps none of the others from being done; then the error of
    the first that failed is raised.
    """
    memory = memory_of(lake)
    at_most = max(1, min(len(todo), threads_of(memory)))
    idle: SimpleQueue[duckdb.DuckDBPyConnection] = SimpleQueue()

    def on_one(task: T) -> None:
        con = idle.get_nowait()  # there are as many connections as threads
        try:
            work(con, task)
        finally:
            idle.put(con)

    with ExitStack() as stack:
        for _ in range(at_most):
            database = _Database(threads_of(memory) // at_most, memory // at_most)
            stack.callback(database.close)
            idle.put(stack.enter_context(closing(database.connection(lake))))
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


def within(start: int | None, end: int | None) -> str:
    """A condition on `start_time`: from `start` on and before `end`, in Unix seconds."""
    bounds = [(">=", start), ("<", end)]
    tests = [
        f"start_time {sign} make_timestamptz({at * 1_000_000})"
        for sign, at in bounds
        if at is not None
    ]
    return " AND ".join(tests) or "true"


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
