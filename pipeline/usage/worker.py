"""Threads with a database, in which days are rolled up and published while others are read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from threading import Lock
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import duckdb

from pipeline.lake import engine
from pipeline.lake.store import Lake

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """Connections for all days of a load, which may spill on the lake's disk; use `with`.

    One thread rolls up, so that memory holds one day, and one publishes, which waits for the disk.
    Meanwhile its process has no other work for the database.

    Whatever it is to do gets a connection of its own first. `all_read`: nothing is read beside it.
    """

    def __init__(self, lake: Lake) -> None:
        self.all_read = False
        self._lake = lake
        self._rolling_up = ThreadPoolExecutor(1)
        self._publishing = ThreadPoolExecutor(1)
        self._opening = Lock()
        self._database = ExitStack()
        self._first: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._rolling_up.shutdown()
        self._publishing.shutdown()
        self._database.close()

    def begin(
        self,
        work: Callable[Concatenate[duckdb.DuckDBPyConnection, P], T],
        *args: P.args,
        **named: P.kwargs,
    ) -> asyncio.Future[T]:
        """Begin to publish, once what was begun before is done."""
        return self._run(self._publishing, lambda con: work(con, *args, **named))

    async def do(
        self,
        work: Callable[Concatenate[duckdb.DuckDBPyConnection, P], T],
        *args: P.args,
        **named: P.kwargs,
    ) -> T:
        """The result of any other work; an interrupt waits until it is done."""
        working = self._run(self._rolling_up, lambda con: work(con, *args, **named))
        try:
            await asyncio.wait([working])
        finally:
            await asyncio.wait([working])
        return working.result()

    def _run(
        self, thread: ThreadPoolExecutor, work: Callable[[duckdb.DuckDBPyConnection], T]
    ) -> asyncio.Future[T]:
        def run() -> T:
            with closing(self._connection()) as con:
                return work(con)

        return asyncio.get_running_loop().run_in_executor(thread, run)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own. One core is left to the thread that reads pages, if any."""
        with self._opening:
            if self._first is None:
                self._first = self._database.enter_context(closing(engine.connect(self._lake)))
                self._database.callback(engine.set_threads, self._first, self._lake)
            engine.set_threads(self._first, self._lake, spare=0 if self.all_read else 1)
            return self._first.cursor()
