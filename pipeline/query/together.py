"""Small pages that are asked for at the same time, counted by one query.

To plan a query takes longer than to count a small page. So who asks while another page is counted
waits for that, and then one query counts all who have come. Who asks alone is never kept waiting.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.buckets import finest
from pipeline.lake.schemas import USAGE, Dataset
from pipeline.lake.snapshot import Snapshot
from pipeline.query.page import Page, Row, count
from pipeline.timeline import Window

_SMALL: Final = 50_000
"""Rows of the lake, days, and users that a page has at most which is counted with others."""
_FEW: Final = 3
"""Fewer pages than that are counted sooner one by one."""
_MOST: Final = 32
_LARGE: Final = max(4, os.cpu_count() or 1)
"""Pages that are not small, of those that are counted at the same time."""


@dataclass(slots=True)
class _Asked:
    """A page that waits to be counted."""

    page: Page
    dataset: Dataset
    files: dict[date, Path | None]
    """Of each day of its window; None where there is none."""
    turn: threading.Event = field(default_factory=threading.Event)
    """That it was its turn: it is counted, or to be counted by itself, or it leads."""
    is_done: bool = False
    rows: list[Row] | None = None
    """None where it is to be counted by itself."""


class Together:
    """What counts the pages of several threads, each with a connection of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Asked] = []
        self._leader: _Asked | None = None
        self._large = threading.BoundedSemaphore(_LARGE)

    def count(
        self, con: duckdb.DuckDBPyConnection, snapshot: Snapshot, page: Page, days: Sequence[date]
    ) -> Iterator[Row]:
        """The rows that `pipeline.query.page.count` gives."""
        asked = _asked(snapshot, page, days)
        if asked is None:
            return self._in_turn(count(con, snapshot, page, days))
        with self._lock:
            self._waiting.append(asked)
            leads = self._leader is None
            if leads:
                self._leader = asked
        if not leads:
            asked.turn.wait()
        if not asked.is_done:
            together = self._take(asked)
            try:
                if together[1:]:
                    _count(con, together)
                else:
                    asked.rows = list(count(con, snapshot, page, days))
            except duckdb.InterruptException:
                raise
            except duckdb.Error:
                if not together[1:]:
                    raise
            finally:  # where it failed, each is counted by itself
                self._hand_over(together)
        return count(con, snapshot, page, days) if asked.rows is None else iter(asked.rows)

    def _in_turn(self, rows: Iterator[Row]) -> Iterator[Row]:
        with self._large:
            yield from rows

    def _take(self, first: _Asked) -> list[_Asked]:
        """Those that wait and can be counted with `first`: by the same files of the same table.

        `first` alone where they are few.
        """
        together: list[_Asked] = []
        files: dict[date, Path | None] = {}
        with self._lock:
            for one in (first, *(it for it in self._waiting if it is not first)):
                if (
                    len(together) < _MOST
                    and one.dataset is first.dataset
                    and all(files.get(day, path) == path for day, path in one.files.items())
                ):
                    together.append(one)
                    files |= one.files
            if len(together) < _FEW:
                together = [first]
            self._waiting = [it for it in self._waiting if it not in together]
        return together

    def _hand_over(self, done: Sequence[_Asked]) -> None:
        with self._lock:
            self._leader = self._waiting[0] if self._waiting else None
            following = self._leader
        for one in done:
            one.is_done = True
            one.turn.set()
        if following is not None:
            following.turn.set()


def _asked(snapshot: Snapshot, page: Page, days: Sequence[date]) -> _Asked | None:
    """A page, to be counted with others; None where it is not small."""
    window = Window(page.buckets[0].start, page.buckets[-1].end)
    if (
        page.by_team
        or not page.native
        or (window.end - window.start) * len(page.users) > _SMALL * 3_600
    ):
        return None
    dataset = USAGE[finest(page.buckets)]
    found = {day: snapshot.loaded(dataset.name, day) for day in days}
    if sum(file.rows for file in found.values() if file is not None) > _SMALL:
        return None
    return _Asked(page, dataset, {day: snapshot.file(dataset.name, day) for day in window.days})


def _count(con: duckdb.DuckDBPyConnection, together: Sequence[_Asked]) -> None:
    """Count several pages by `sql/usage_pages.sql`."""
    pages = list(enumerate(one.page for one in together))
    flags = {
        "page": [place for place, _ in pages],
        "by_user": ["user_id" in page.group_by for _, page in pages],
        "by_key": ["api_key_id" in page.group_by for _, page in pages],
        "all_users": [not page.users for _, page in pages],
    }
    starts = [(place, bucket.start) for place, page in pages for bucket in page.buckets]
    users = [(place, user) for place, page in pages for user in {*page.users}]
    con.register("pages", pa.table(flags))
    con.register("page_buckets", _table(starts, page=pa.int64(), bucket_start=pa.int64()))
    con.register("page_users", _table(users, page=pa.int64(), user_id=pa.string()))
    files = sorted({path for one in together for path in one.files.values() if path is not None})
    usage = engine.scan(together[0].dataset, files)
    found: list[list[Row]] = [[] for _ in together]
    for place, *row in con.execute(
        f"WITH usage AS ({usage}) {engine.sql('usage_pages')}"
    ).fetchall():
        found[place].append((row[0], row[1], row[2], row[3], row[4], row[5]))
    for one, rows in zip(together, found, strict=True):
        one.rows = rows


def _table(rows: Sequence[tuple[object, ...]], **columns: pa.DataType) -> pa.Table:
    """Rows as columns of these types."""
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [pa.array(of, kind) for of, kind in zip(values, columns.values(), strict=True)]
    return pa.table(arrays, list(columns))
