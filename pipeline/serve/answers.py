"""Answers: each made once, in a thread, and kept as bytes for as long as it is right.

An answer is right while every day that it was made from has the version that it had then. So each
request looks at the links of those days, and a run that publishes one is seen by the next request.
What nobody waits for any more is not made: it leaves the queue, or its query is interrupted. The
queue has a bound, and so have the requests that wait: beyond it, they are refused for now.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, TypeAlias

import duckdb
import msgspec
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.files import ContractError
from pipeline.lake.store import Lake
from pipeline.names.file import NamesOfNow
from pipeline.pseudonyms import Pseudonyms
from pipeline.query.buckets import PageQuery, answer_on, stored_users
from pipeline.query.together import Together
from pipeline.serve.seen import Seen

KEPT_BYTES: Final = 64 << 20
"""How much is kept in memory at most; one answer takes an eighth of it at most."""
LARGEST: Final = 32 << 20
"""Bytes of a page at most: clients have to take it in time, and several are made at once."""
QUERY_MEMORY: Final = 512 << 20
"""Bytes that queries use in memory, all together; what takes more goes to disk."""
WAITING_BYTES: Final = 16 << 20
"""How much the requests take that wait for an answer, all together."""
QUEUE: Final = 1_024
"""Answers that wait to be made at most."""
THREADS: Final = 16
"""Answers that are under way at once: far more than cores, so that a slow one keeps none waiting,
and that many small ones can be counted together."""
_OVERHEAD: Final = 1_000
"""Bytes that keeping an answer takes beside those of its body, and a request beside its users."""
_PER_DAY: Final = 500
"""Bytes that it takes to know of a day which version an answer was made from."""
_AGAIN: Final = 0.05
"""Seconds after which a query is interrupted again: the next of an answer's queries may run."""

Key: TypeAlias = bytes
"""Stands for a question, however long that is."""


class UnreadableError(Exception):
    """The lake, or the file of names, has what cannot be read. The message is for the operator,
    `words` for who asks."""

    words = "the lake cannot be read: `mka1-usage verify` names the files to blame"


class WrongNamesError(UnreadableError):
    """The file of names can't be read."""

    words = "the names cannot be read: `mka1-usage names check` says what is wrong"


class TooMuchError(ValueError):
    """The page takes more memory than there is."""


class BusyError(Exception):
    """More is asked for than can be answered soon."""


@dataclass(frozen=True, slots=True)
class Body:
    """A page as JSON. Before `complete_through` (Unix seconds), its numbers are complete."""

    content: bytes
    complete_through: int
    etag: str


@dataclass(frozen=True, slots=True)
class _Made:
    """An answer, and what it was made from."""

    body: Body
    seen: Seen

    @property
    def size(self) -> int:
        return len(self.body.content) + len(self.seen.versions) * _PER_DAY + _OVERHEAD


class _StoppedError(Exception):
    """Nobody waits for the answer any more."""


class _Work:
    """An answer that is being made, or is to be, and how many wait for it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.stopped = False
        self.future: asyncio.Future[_Made]
        self._submitted: Future[_Made]
        self._con: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def submit(self, threads: ThreadPoolExecutor, answer: Callable[[_Work], _Made]) -> None:
        """Have it made by one of the threads."""
        self._submitted = threads.submit(answer, self)
        self.future = asyncio.wrap_future(self._submitted)

    @contextmanager
    def on(self, con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
        """Its queries run on this connection, inside of the block."""
        with self._lock:
            self._con = con
        try:
            yield con
        finally:
            with self._lock:  # what comes next on this connection is not to be interrupted
                self._con = None

    def stop(self) -> None:
        """Leave it, and end the query that runs, if any does, also after the event loop has ended.

        A thread of its own interrupts: an interrupt before a query has begun is lost.
        """
        self.stopped = True
        self.future.cancel()
        if not self._submitted.cancel():
            threading.Thread(target=self._interrupt, daemon=True).start()

    def _interrupt(self) -> None:
        while not self._submitted.done():
            with self._lock:
                if self._con is not None:
                    self._con.interrupt()
            wait([self._submitted], _AGAIN)


class Answers:
    """Pages of the lake, as endpoint 1 would have them at the time of `clock`.

    `partial` counts days that were never loaded as empty. To be used from one event loop; `close`
    it at the end.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        partial: bool = False,
        pseudonyms: Pseudonyms | None = None,
        names: NamesOfNow | None = None,
        clock: Callable[[], float] = time.time,
        kept_bytes: int = KEPT_BYTES,
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        self._lake = lake
        self._partial = partial
        self._pseudonyms = pseudonyms
        self._names = names
        self._clock = clock
        self._most = kept_bytes
        self._waiting_most = waiting_bytes
        self.kept_bytes = 0
        """What is kept takes so much memory, about."""
        self._kept: OrderedDict[Key, _Made] = OrderedDict()
        self._waiting_bytes = 0
        self._under_way: dict[Key, _Work] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="answers")
        self._own = threading.local()
        # One for all threads, so that they share one limit of memory.
        self._database = engine.connect(lake, threads=1, at_most=QUERY_MEMORY)
        self._opening = threading.Lock()
        self._together = Together()

    def kept(self, query: PageQuery) -> Body | None:
        """The page that answers `query`, if it is kept and still right.

        ValueError where it has no answer.
        """
        made = self._kept.get(key := self._key(query, self._now(query)))
        if made is None or not made.seen.still(self._lake):
            return None
        self._kept.move_to_end(key)
        return made.body

    async def page(self, query: PageQuery) -> Body:
        """The page that answers `query`. It is made only while somebody waits for it.

        Raises what `pipeline.query.buckets.answer` raises, BusyError, UserIdModeError,
        TooMuchError and UnreadableError.
        """
        size = _OVERHEAD + sum(map(sys.getsizeof, query.user_ids))
        if self._waiting_bytes + size > self._waiting_most:
            raise BusyError
        self._waiting_bytes += size
        try:
            return await self._page(query)
        finally:
            self._waiting_bytes -= size

    def close(self) -> None:
        """Begin nothing any more, and end what is under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for work in self._under_way.values():
            work.stop()

    def _now(self, query: PageQuery) -> int:
        now = int(self._clock() // 1) + 1  # the second that is under way counts
        if query.end_time is None and query.start_time >= now:
            raise ValueError("start_time lies in the future: a window without end_time ends now")
        return now

    def _key(self, query: PageQuery, now: int) -> Key:
        # A window without an end grows, by whole buckets: never in the middle of a minute.
        minute = 0 if query.end_time is not None else -(-now // 60)
        named = self._names.version if self._names and query.needs_names else ""
        return blake2b(msgspec.json.encode((query, minute, named)), digest_size=32).digest()

    def _called(self, query: PageQuery) -> pa.Table | None:
        """The names that it takes. WrongNamesError."""
        if not query.needs_names or self._names is None:
            return None
        try:
            return self._names().table
        except ValueError as error:  # which is for the operator, and names a file
            raise WrongNamesError(str(error)) from error

    async def _page(self, query: PageQuery) -> Body:
        key = self._key(query, now := self._now(query))
        while True:
            if (body := self.kept(query)) is not None:
                return body
            work = self._under_way.get(key)
            begins = work is None
            if work is None:
                work = self._begin(key, query, now)
            made = await self._wait(key, work)
            # What somebody else's request began may be older than this one.
            if begins or made.seen.still(self._lake):
                return made.body

    def _begin(self, key: Key, query: PageQuery, now: int) -> _Work:
        if len(self._under_way) >= THREADS + QUEUE:
            raise BusyError
        work = self._under_way[key] = _Work()
        work.submit(self._threads, lambda work: self._answer(work, query, now))
        work.future.add_done_callback(lambda _: self._keep(key, work))
        return work

    async def _wait(self, key: Key, work: _Work) -> _Made:
        work.waiting += 1
        try:
            return await asyncio.shield(work.future)
        finally:
            work.waiting -= 1
            if not work.waiting and not work.future.done():
                self._forget(key, work)
                work.stop()

    def _forget(self, key: Key, work: _Work) -> None:
        if self._under_way.get(key) is work:
            del self._under_way[key]

    def _keep(self, key: Key, work: _Work) -> None:
        self._forget(key, work)
        done = work.future
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

    def _answer(self, work: _Work, query: PageQuery, now: int) -> _Made:
        """The answer, from what the lake holds now. Runs in a thread of the pool."""
        seen = Seen.of(self._lake)
        try:
            users = stored_users(self._lake, query.user_ids, self._pseudonyms)
            stored = replace(query, user_ids=users) if users else query
            with work.on(self._connection()) as con:
                if work.stopped:
                    raise _StoppedError
                answered = answer_on(
                    con,
                    self._lake,
                    stored,
                    partial=self._partial,
                    now=now,
                    count=self._together.count,
                    names=self._called(query),
                )
                content = _within(LARGEST, answered.text)
        except duckdb.InterruptException:
            raise _StoppedError from None
        except duckdb.OutOfMemoryException:
            raise TooMuchError(
                "this page takes more memory than the server has: ask for fewer buckets, by limit"
            ) from None
        except (OSError, ContractError, duckdb.Error, pa.ArrowException) as error:
            raise UnreadableError(str(error)) from error
        through = answered.complete_through
        if through is None:
            through = answered.end
        digest = blake2b(content, digest_size=16, key=b"%d" % through).hexdigest()
        body = Body(content, through, f'"{digest}"')
        return _Made(body, seen.read(self._lake, answered.snapshot))

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """This thread's own: a connection takes longer to open than a page to make."""
        con: duckdb.DuckDBPyConnection | None = getattr(self._own, "con", None)
        if con is None:
            with self._opening:
                con = self._own.con = self._database.cursor()
        return con


def _within(limit: int, pieces: Iterable[bytes]) -> bytes:
    """The pieces as one; TooMuchError once they are more than so many bytes."""
    size, taken = 0, list[bytes]()
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise TooMuchError(
                f"this page has more than {limit >> 20} MB: ask for fewer buckets, by limit, for "
                "narrower ones, or for some users, by user_ids"
            )
        taken.append(piece)
    return b"".join(taken)
