"""Answers: each made once, in a thread, and kept as bytes for as long as it is right.

Belongs here: threads, what an answer was made from, what is kept and for how long. Does not belong
here: what a page says (`pipeline.pages`), or HTTP (`pipeline.serving.app`).

An answer is right while every day that it was made from has the version that it had then. So each
request looks at the links of those days, and a run that publishes one is seen by the next request.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeAlias

import duckdb
import msgspec
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.files import ContractError
from pipeline.lake.identity import IdentityError, check
from pipeline.lake.store import Lake
from pipeline.pages import PageQuery, answer_on
from pipeline.pseudonyms import Pseudonyms

KEPT_BYTES: Final = 64 << 20
"""How much is kept in memory at most; one answer takes an eighth of it at most."""
_THREADS: Final = max(4, os.cpu_count() or 1)
"""Answers that are made at once: more than cores, so that a slow one keeps none waiting."""
_OVERHEAD: Final = 1_000
"""Bytes that keeping an answer takes beside those of its body."""

Mark: TypeAlias = tuple[int, int] | None
Key: TypeAlias = tuple[PageQuery, int]


class UnreadableError(Exception):
    """The lake has what cannot be read. The message is for whoever runs the server."""


class TooMuchError(ValueError):
    """The page takes more memory than there is."""


class UnknownUsersError(ValueError):
    """Users are asked for by ids of another kind than the lake has."""


@dataclass(frozen=True, slots=True)
class Body:
    """A page as JSON. Before `complete_through` (Unix seconds), its numbers are complete."""

    content: bytes
    complete_through: int
    etag: str


@dataclass(slots=True)
class _Made:
    """An answer, and what was seen of the lake while it was made: right while that is still so."""

    body: Body
    seen: dict[Path, Mark] = field(default_factory=dict[Path, Mark])

    def stands(self) -> bool:
        return all(_mark(path) == mark for path, mark in self.seen.items())

    @property
    def size(self) -> int:
        return len(self.body.content) + len(self.seen) * 200 + _OVERHEAD


class _Watched(Lake):
    """A lake that shows one version of each day, and notes what was looked at."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.root, lake.lookback_days)
        self.seen: dict[Path, Mark] = {}
        self._versions: dict[date, Path | None] = {}

    def version(self, day: date) -> Path | None:
        if day not in self._versions:
            version = self._versions[day] = super().version(day)
            self.seen[self.link(day)] = None if version is None else _mark(version)
        return self._versions[day]

    def all_days(self) -> list[date]:
        folder = self.root / "days"
        self.seen[folder] = _mark(folder)
        return super().all_days()


class Answers:
    """Pages of the lake, as endpoint 1 would have them at the moment that `clock` tells.

    `partial` counts days that were never loaded as empty. To be used from one event loop; `close`
    it at the end.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        partial: bool = False,
        pseudonyms: Pseudonyms | None = None,
        clock: Callable[[], float] = time.time,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._lake = lake
        self._partial = partial
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._most = kept_bytes
        self.kept_bytes = 0
        """What is kept takes so much memory, about."""
        self._kept: OrderedDict[Key, _Made] = OrderedDict()
        self._under_way: dict[Key, asyncio.Future[_Made]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="answers")
        self._own = threading.local()
        # One for all threads, so that they share one limit of memory.
        self._database = engine.connect(threads=1)
        self._opening = threading.Lock()

    async def page(self, query: PageQuery) -> Body:
        """The page that answers `query`.

        Raises what `pipeline.pages.answer` raises, UnknownUsersError, TooMuchError and
        UnreadableError.
        """
        now = int(self._clock() // 1) + 1  # the second that is under way counts
        if query.end_time is None and query.start_time >= now:
            raise ValueError("start_time lies in the future: a window without end_time ends now")
        # A window without an end grows, by whole buckets: never in the middle of a minute.
        key = (query, 0 if query.end_time is not None else -(-now // 60))
        while True:
            made = self._kept.get(key)
            if made is not None and made.stands():
                self._kept.move_to_end(key)
                return made.body
            joined = self._under_way.get(key)
            if joined is None:
                return (await self._make(key, query, now)).body
            # What somebody else's request began may be older than this one: it is looked at again.
            made = await asyncio.shield(joined)
            if made.stands():
                return made.body

    def close(self) -> None:
        """Begin nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _make(self, key: Key, query: PageQuery, now: int) -> _Made:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._answer, query, now)
        self._under_way[key] = future
        # Also where whoever asked has gone away: others may have joined.
        future.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(future)

    def _keep(self, key: Key, done: asyncio.Future[_Made]) -> None:
        del self._under_way[key]
        if done.cancelled() or done.exception() is not None:
            return
        made = done.result()
        if (old := self._kept.pop(key, None)) is not None:
            self.kept_bytes -= old.size
        if made.size <= self._most // 8:
            self._kept[key] = made
            self.kept_bytes += made.size
        while self.kept_bytes > self._most:
            _, oldest = self._kept.popitem(last=False)
            self.kept_bytes -= oldest.size

    def _answer(self, query: PageQuery, now: int) -> _Made:
        """The answer, from what the lake holds now. Runs in a thread of the pool."""
        lake = _Watched(self._lake)
        try:
            stored = self._as_stored(lake, query)
            answered = answer_on(self._connection(), lake, stored, partial=self._partial, now=now)
        except duckdb.OutOfMemoryException:
            raise TooMuchError(
                "this page takes more memory than the server has: ask for fewer buckets, by limit"
            ) from None
        except (OSError, ContractError, duckdb.Error, pa.ArrowException) as error:
            raise UnreadableError(str(error)) from error
        through = answered.complete_through
        if through is None:
            through = answered.page["data"][-1]["end_time"]
        content = msgspec.json.encode(answered.page)
        digest = blake2b(content, digest_size=16, key=b"%d" % through).hexdigest()
        return _Made(Body(content, through, f'"{digest}"'), lake.seen)

    def _as_stored(self, lake: Lake, query: PageQuery) -> PageQuery:
        """The query with its users called what the lake calls them."""
        if not query.user_ids:
            return query
        names = self._pseudonyms
        try:
            check(lake, names.fingerprint if names else None)
        except IdentityError as error:
            raise UnknownUsersError(str(error)) from None
        if names is None:
            return query
        return replace(query, user_ids=[names.of(user) for user in query.user_ids])

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """This thread's own: a connection takes longer to open than a page to make."""
        con: duckdb.DuckDBPyConnection | None = getattr(self._own, "con", None)
        if con is None:
            with self._opening:
                con = self._own.con = self._database.cursor()
            con.execute("SET TimeZone = 'UTC'")
        return con


def _mark(path: Path) -> Mark:
    """What tells one version of a day from another, also where a lake was begun anew."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
