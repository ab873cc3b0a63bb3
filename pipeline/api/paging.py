"""The walk over a window of usage buckets: it brings every bucket, or it fails loudly.

Belongs here: following cursors, checking each page against the question and against the pages
before it, recovering, and choosing how many buckets to ask for. Does not belong here: HTTP (pages
come from a function that is passed in) or what is done with the pages.

What a server may do, and what the walk makes of it (API.md, "What the API does not say"):

| the server | the walk |
| --- | --- |
| repeats a cursor; promises more without a cursor, or with an empty page | PagingError |
| promises more without end, with no bucket that it has not served before | PagingError |
| serves a bucket outside the window, or of another width | PagingError |
| refuses a cursor in mid-walk (400, 404, 410) | goes on from the last complete bucket, anew |
| gives fewer buckets than asked for | follows its cursors |
| leaves empty buckets out | nothing: a bucket that is not there is an empty one |
| serves a bucket twice | both are passed on in order; the later one counts, whole |
| answers too large or too slowly | asks for fewer buckets, then for more again |
| keeps throwing the walk back | asks for ever less, in the end for one bucket alone |

Pages are passed on as they come, so whoever takes them must keep them aside until the walk ends
without an error. Memory is one page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.api.client import Answer
from pipeline.api.errors import AnswerTooBig, PagingError, Refused
from pipeline.api.usage import MAX_LIMIT, UsagePage, UsageQuery
from pipeline.timeline import SECONDS, Window, floor_to, iso

Fetch = Callable[[UsageQuery], Awaitable[Answer[UsagePage]]]

_CURSOR_REFUSED: Final = frozenset({400, 404, 410})
_MAX_STALLS: Final = 3
"""How often in a row the answer for a single bucket may be too much."""
_MAX_BARREN: Final = 10
"""How many pages in a row may bring only buckets that were served before."""


@dataclass(slots=True)
class PageSize:
    """How many buckets to ask for at once, so that an answer stays near `target_bytes`.

    One object may serve many walks at once: what one learns, the others use. It starts small: the
    first answers tell how dense the account is.
    """

    target_bytes: int = 4 * 1024 * 1024
    target_seconds: float = 10.0
    buckets: int = 60
    _cap: int = field(default=MAX_LIMIT, repr=False)

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
    fetch: Fetch, query: UsageQuery, size: PageSize | None = None
) -> AsyncIterator[UsagePage]:
    """Every page of `query`'s window, in order, checked.

    The window must have an end and lie on edges of the bucket width: otherwise what the server
    counts into its first and last bucket is not known (ValueError). Raises PagingError, and what
    `fetch` raises: AnswerTooBig only when a single bucket keeps being too much, and Refused never
    for an expired cursor, not even when every cursor is refused.
    """
    if query.end_time is None or query.page is not None:
        raise ValueError("a walk needs a window with an end, and no cursor of its own")
    window = Window(query.start_time, query.end_time)
    if window.widened(query.bucket_width) != window:
        raise ValueError(f"a walk starts and ends on edges of {query.bucket_width}: {window}")
    size = size or PageSize()
    width = SECONDS[query.bucket_width]
    position, stalls, most = window.start, 0, MAX_LIMIT
    while position < window.end:
        limit = min(size.buckets, most, (window.end - position) // width)
        part = Window(position, position + limit * width)
        asked = replace(query, start_time=part.start, end_time=part.end, limit=limit)
        drain = _Drain(fetch, asked, part, size)
        try:
            async for page in drain.pages():
                yield page
            position, stalls, most = part.end, 0, min(most * 2, MAX_LIMIT)
        except (_CursorLost, AnswerTooBig) as error:
            if isinstance(error, AnswerTooBig):
                size.too_big(limit)
            if drain.complete_through > position:
                position, stalls = drain.complete_through, 0
            elif limit > 1:
                # What a single page holds needs no cursor, and its order does not matter.
                most = max(1, limit // 4)
            else:
                # Only AnswerTooBig gets here: a page that gives a cursor has brought the bucket.
                stalls += 1
                if stalls == _MAX_STALLS:
                    raise


class _CursorLost(Exception):
    """The server refuses a cursor that it gave."""


@dataclass(slots=True)
class _Drain:
    """One query followed to its last page."""

    fetch: Fetch
    query: UsageQuery
    window: Window
    size: PageSize
    complete_through: int = field(init=False)
    """Every bucket before this second has been passed on; from here a new query may go on."""
    _served: set[int] = field(default_factory=set[int])
    _ascending: bool = True

    def __post_init__(self) -> None:
        self.complete_through = self.window.start

    async def pages(self) -> AsyncIterator[UsagePage]:
        cursor: str | None = None
        followed: set[str] = set()
        last_end, barren = self.window.start, 0
        while True:
            answer = await self._page(cursor)
            page, before = answer.value, len(self._served)
            for bucket in page.buckets:
                self._check(bucket.start_time, bucket.end_time)
                self._ascending = self._ascending and bucket.end_time >= last_end
                last_end = max(last_end, bucket.end_time)
                self._served.add(bucket.start_time)
            barren = barren + 1 if len(self._served) == before else 0
            reached = last_end if page.has_more else self.window.end
            covered = (reached - self.complete_through) // SECONDS[self.query.bucket_width]
            self.size.learn(covered, answer.size, answer.seconds)
            yield page
            if not page.has_more:
                self.complete_through = self.window.end
                return
            if not page.next_page:
                raise self._lie("promises more (has_more) but gives no next_page")
            if not page.buckets:
                raise self._lie("promises more (has_more) with a page that holds no bucket")
            if page.next_page in followed:
                raise self._lie("gives a next_page that it gave before: the walk would never end")
            if barren == _MAX_BARREN:
                raise self._lie(f"has brought no new bucket in {barren} pages and promises more")
            self.complete_through = last_end if self._in_order() else self.window.start
            followed.add(page.next_page)
            cursor = page.next_page

    def _in_order(self) -> bool:
        """Whether the last bucket served is the last complete one, as far as can be known.

        A server that serves the newest first has none, and its first bucket alone does not tell.
        """
        return self._ascending and (len(self._served) > 1 or self.window.start in self._served)

    async def _page(self, cursor: str | None) -> Answer[UsagePage]:
        try:
            return await self.fetch(replace(self.query, page=cursor))
        except Refused as refusal:
            if cursor is not None and refusal.status in _CURSOR_REFUSED:
                raise _CursorLost from None
            raise

    def _check(self, start: int, end: int) -> None:
        width = self.query.bucket_width
        if not self.window.start <= start < self.window.end:
            raise self._lie(f"serves the bucket that starts at {iso(start)}, outside the window")
        if end - start != SECONDS[width] or floor_to(start, width) != start:
            raise self._lie(
                f"serves the bucket {iso(start)} to {iso(end)}, which is no {width} bucket"
            )

    def _lie(self, what: str) -> PagingError:
        return PagingError(
            f"asked for {self.query.bucket_width} buckets of {self.window} with limit "
            f"{self.query.limit}, the API {what}. Nothing of this window was kept; if it happens "
            "again, report it to MKA1 with this message."
        )
