"""The walk over a window of usage buckets: it brings every bucket, or it fails.

Belongs here: following cursors, checking each page against the question and against the pages
before it, recovering, and choosing how many buckets to ask for. docs/api.md, "Pages of usage", has
a row for each thing that a server may do.

Pages are passed on as they come, so the caller keeps them aside until the walk ends without an
error. Memory is one page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Protocol, TypeVar

from pipeline.api.client import Answer
from pipeline.api.errors import (
    AnswerTooBig,
    BucketTooBig,
    InvalidQuery,
    PagingError,
    Refused,
)
from pipeline.api.usage import MAX_LIMIT, UsageQuery
from pipeline.timeline import SECONDS, Width, Window, floor_to, iso


class BucketOfUsage(Protocol):
    """What a walk reads of a bucket, whichever endpoint served it. Unix seconds."""

    @property
    def start_time(self) -> int:
        """Inclusive."""

    @property
    def end_time(self) -> int:
        """Exclusive."""

    @property
    def results(self) -> Sequence[object]:
        """What was counted; none: nothing."""


B = TypeVar("B", bound=BucketOfUsage)
B_co = TypeVar("B_co", bound=BucketOfUsage, covariant=True)


class PageOfBuckets(Protocol[B_co]):
    """What a walk reads of a page, whichever endpoint served it."""

    @property
    def buckets(self) -> Sequence[B_co]:
        """As served."""

    @property
    def has_more(self) -> bool | None:
        """None where it was not said."""

    @property
    def next_page(self) -> str | None:
        """The cursor of the page behind."""


P = TypeVar("P", bound=PageOfBuckets[Any])
Fetch = Callable[[UsageQuery], Awaitable[Answer[P]]]

_CURSOR_REFUSED: Final = frozenset({400, 404, 410, 422})
_LIMIT_REFUSED: Final = frozenset({400, 422})
_SMALLER_LIMITS: Final = (168, 31, 7, 1)
"""What is tried after a refusal: a week of hours and a month of days, as similar APIs allow."""
_NARROWER: Final[Mapping[Width, Width]] = {"1d": "1h", "1h": "1m"}
_MAX_STALLS: Final = 3
"""How often in a row the answer for a single bucket may be too slow."""
_MAX_BARREN: Final = 10
"""How many pages in a row may bring only buckets that were served before. Empty pages may be as
many as the buckets that were asked for: a server may page over time, whatever happened in it."""


@dataclass(slots=True)
class PageSize:
    """How many buckets to ask for at once, so that an answer stays near `target_bytes`.

    One object may serve many walks at once: what one learns, the others use. It starts small: the
    first answers show how dense the account is. It also keeps the limits that the server has by
    width, below the documented one.
    """

    target_bytes: int = 4 * 1024 * 1024
    target_seconds: float = 10.0
    buckets: int = 60
    _cap: int = field(default=MAX_LIMIT, repr=False)
    _allowed: dict[Width, int] = field(default_factory=dict[Width, int], repr=False)

    def allowed(self, width: Width) -> int:
        """Most buckets of a width that the server is known to take as a limit."""
        return self._allowed.get(width, MAX_LIMIT)

    def allow(self, width: Width, limit: int) -> None:
        """The server takes `limit` at a width where it has refused more."""
        self._allowed[width] = min(limit, self.allowed(width))

    def learn(self, buckets: int, size: int, seconds: float) -> None:
        """An answer of `buckets` buckets took `size` bytes and `seconds`."""
        if not buckets:
            return
        by_size = self.target_bytes * buckets / max(size, 1)
        by_time = self.target_seconds * buckets / max(seconds, 1e-6)
        # A single quiet hour says little about the next: never more than eightfold at once.
        wanted = min(by_size, by_time, self.buckets * 8)
        self._cap = min(MAX_LIMIT, self._cap * 2)
        self.buckets = max(1, min(int(wanted), self._cap))

    def too_big(self, buckets: int) -> None:
        """An answer of `buckets` buckets was too big."""
        self._cap = self.buckets = max(1, min(self.buckets, buckets) // 4)


async def walk_usage(
    fetch: Fetch[P], query: UsageQuery, size: PageSize | None = None
) -> AsyncIterator[P]:
    """Every page of `query`'s window, in order, checked.

    The window must have an end and lie on edges of the bucket width: otherwise what the server
    counts into its first and last bucket is not known (ValueError). Raises PagingError, and what
    `fetch` raises: BucketTooBig when a single bucket is too much, and Refused never for an expired
    cursor, not even when every cursor is refused.
    """
    window, size = _window(query), size or PageSize()
    width = SECONDS[query.bucket_width]
    position, stalls, most = window.start, 0, MAX_LIMIT
    refusal: Refused | None = None
    while position < window.end:
        limit = min(
            size.buckets, size.allowed(query.bucket_width), most, (window.end - position) // width
        )
        part = Window(position, position + limit * width)
        asked = replace(query, start_time=part.start, end_time=part.end, limit=limit)
        drain = _Walk(fetch, asked, part, size)
        try:
            async for page in drain.pages():
                yield page
            position, stalls, most = part.end, 0, min(most * 2, MAX_LIMIT)
        except Refused as refused:  # of a first page: of a cursor it is _CursorLost
            refusal = refusal or refused
            if limit == 1 or refused.status not in _LIMIT_REFUSED:
                raise refusal from None
            most = next(smaller for smaller in _SMALLER_LIMITS if smaller < limit)
            continue
        except (_CursorLost, AnswerTooBig) as error:
            if isinstance(error, AnswerTooBig):
                size.too_big(limit)
            if drain.complete_through > position:
                position, stalls = drain.complete_through, 0
            elif limit > 1:
                # What a single page holds needs no cursor, and its order does not matter.
                most = max(1, limit // 4)
            else:
                stalls += 1
                if isinstance(error, AnswerTooBig) and (stalls == _MAX_STALLS or not error.slow):
                    raise BucketTooBig(str(error), part.start, part.end) from None
                if stalls == _MAX_STALLS:
                    raise drain.paging_error(
                        "promises a bucket, and refuses its own cursor to it"
                    ) from None
        if refusal is not None:  # this limit was taken
            size.allow(query.bucket_width, limit)
            refusal = None


def _window(query: UsageQuery) -> Window:
    if query.end_time is None or query.page is not None:
        raise ValueError("a walk needs a window with an end, and no cursor of its own")
    window = Window(query.start_time, query.end_time)
    if window.widened(query.bucket_width) != window:
        raise ValueError(f"a walk starts and ends on edges of {query.bucket_width}: {window}")
    return window


async def walk_narrowing(
    fetch: Fetch[PageOfBuckets[B]], query: UsageQuery, size: PageSize | None = None
) -> AsyncIterator[B]:
    """The buckets of a window, in narrower ones where one is too big for an answer: for sums.

    A bucket as wide as asked for may come twice, and the later one counts, whole. A narrower one
    comes once, behind all others of the same wider bucket. Raises what `walk_usage` does;
    BucketTooBig for a minute alone. Memory is one page.
    """
    position, end = query.start_time, query.end_time or 0
    while True:
        try:
            async for page in walk_usage(fetch, replace(query, start_time=position), size):
                for bucket in page.buckets:
                    yield bucket
        except BucketTooBig as too_big:
            if query.bucket_width not in _NARROWER:
                raise
            start, position = too_big.start, too_big.end
        else:
            return
        narrower = replace(query, bucket_width=_NARROWER[query.bucket_width])
        width = SECONDS[narrower.bucket_width]
        for begin in range(start, position, width):
            latest: B | None = None
            one = replace(narrower, start_time=begin, end_time=begin + width)
            async for bucket in walk_narrowing(fetch, one, size):
                if bucket.end_time - bucket.start_time == width:
                    latest = bucket
                else:
                    latest = None
                    yield bucket
            if latest is not None:
                yield latest
        if position == end:
            return


class _CursorLost(Exception):
    """The server refuses a cursor that it gave."""


@dataclass(slots=True)
class _Walk(Generic[P]):
    """One query followed to its last page."""

    fetch: Fetch[P]
    query: UsageQuery
    window: Window
    size: PageSize
    complete_through: int = field(init=False)
    """Every bucket before this second has been passed on; from here a new query may go on."""
    _served: set[int] = field(default_factory=set[int])
    _ascending: bool = True

    def __post_init__(self) -> None:
        self.complete_through = self.window.start

    async def pages(self) -> AsyncIterator[P]:
        cursor: str | None = None
        followed: set[str] = set()
        last_end, barren, empty = self.window.start, 0, 0
        promised, denied = True, False  # whether it was said with the cursor that there is more
        while True:
            answer = await self._page(cursor, promised)
            if answer is None:
                break
            page, before = answer.value, len(self._served)
            if not promised and page.buckets and not any(map(self._is_inside, page.buckets)):
                for bucket in page.buckets:
                    self._check_width(bucket.start_time, bucket.end_time)
                break  # the cursor led on, behind the window
            for bucket in page.buckets:
                self._check(bucket.start_time, bucket.end_time)
                if denied and bucket.results and bucket.start_time not in self._served:
                    raise self.paging_error(
                        "says that there is no more (has_more), and serves more behind"
                    )
                self._ascending = self._ascending and bucket.end_time >= last_end
                last_end = max(last_end, bucket.end_time)
                self._served.add(bucket.start_time)
            fresh = len(self._served) > before
            barren = 0 if fresh else barren + bool(page.buckets)
            empty = 0 if page.buckets else empty + 1
            new_cursor = page.next_page if page.next_page not in {None, "", *followed} else None
            believed = page.has_more is False and not promised and not fresh  # said twice by now
            goes_on = page.has_more or (
                not believed and not self._all_served and self._may_go_on(page, new_cursor)
            )
            reached = last_end if goes_on else self.window.end
            covered = (reached - self.complete_through) // SECONDS[self.query.bucket_width]
            self.size.learn(covered, answer.size, answer.seconds)
            yield page
            if not goes_on:
                break
            self.complete_through = last_end if self._in_order() else self.window.start
            if new_cursor is None:
                self._complain(page)
                raise _CursorLost  # whether there is more was not said: what follows is asked for
            if barren == _MAX_BARREN or empty > max(_MAX_BARREN, self._buckets):
                raise self.paging_error(
                    f"has brought no new bucket in {max(barren, empty)} pages and promises more"
                )
            followed.add(new_cursor)
            cursor, promised = new_cursor, bool(page.has_more)
            denied = page.has_more is False
        self.complete_through = self.window.end

    def _may_go_on(self, page: P, new_cursor: str | None) -> bool:
        """Whether buckets may follow a page that does not promise any."""
        if new_cursor is not None:
            return True
        return page.has_more is None and bool(page.buckets) and self._buckets > 1

    def _complain(self, page: P) -> None:
        """PagingError for a page that promises more, and gives no way to it."""
        if page.has_more and not page.next_page:
            raise self.paging_error("promises more (has_more) but gives no next_page")
        if page.has_more:
            raise self.paging_error(
                "gives a next_page that it gave before: the walk would never end"
            )

    @property
    def _buckets(self) -> int:
        return (self.window.end - self.window.start) // SECONDS[self.query.bucket_width]

    @property
    def _all_served(self) -> bool:
        return len(self._served) == self._buckets

    def _in_order(self) -> bool:
        """Whether the last bucket served is the last complete one, as far as can be known.

        A server that serves the newest first has none, and its first bucket alone shows nothing.
        """
        return self._ascending and (len(self._served) > 1 or self.window.start in self._served)

    async def _page(self, cursor: str | None, promised: bool) -> Answer[P] | None:
        """The page behind a cursor; None for one that is refused, where nothing is missing."""
        try:
            return await self.fetch(replace(self.query, page=cursor))
        except (Refused, InvalidQuery) as refusal:
            status = refusal.status if isinstance(refusal, Refused) else 400
            if cursor is None or status not in _CURSOR_REFUSED:
                raise
        # Without a bucket, the server has said twice that there is none.
        if not promised and (not self._served or self._buckets == 1):
            return None
        raise _CursorLost

    def _is_inside(self, bucket: BucketOfUsage) -> bool:
        return self.window.start <= bucket.start_time < self.window.end

    def _check(self, start: int, end: int) -> None:
        if not self.window.start <= start < self.window.end:
            raise self.paging_error(
                f"serves the bucket that starts at {iso(start)}, outside the window"
            )
        self._check_width(start, end)

    def _check_width(self, start: int, end: int) -> None:
        width = self.query.bucket_width
        if end - start != SECONDS[width] or floor_to(start, width) != start:
            raise self.paging_error(
                f"serves the bucket {iso(start)} to {iso(end)}, which is no {width} bucket"
            )

    def paging_error(self, what: str) -> PagingError:
        """The error of a walk that cannot be right."""
        return PagingError(
            f"asked for {self.query.bucket_width} buckets of {self.window} with limit "
            f"{self.query.limit}, the API {what}. Nothing of this window was kept; if it happens "
            "again, report it to MKA1 with this message."
        )
