"""A model of endpoint 1 as the walk sees it: no HTTP, every freedom, and lies.

Belongs here: what a server may do with true counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pipeline.api import AnswerTooBig, Refused, UsagePage, UsageQuery
from pipeline.api.client import Answer
from pipeline.api.usage import Bucket, Result
from pipeline.timeline import SECONDS, Width

START = 1_704_067_200
"""Where every window begins: 2024-01-01T00:00:00Z."""

Lie = Literal[
    "repeated cursor",
    "no cursor",
    "empty cursor",
    "empty for ever",
    "before the window",
    "after the window",
    "another width",
    "off the edge",
    "upside down",
]
End = Literal["nothing", "a refused cursor", "an empty page", "another window", "itself"]
"""What the last page has for a `next_page`."""
LIES: tuple[Lie, ...] = get_args(Lie)


@dataclass
class Server:
    """A model of endpoint 1, with its freedoms and its faults.

    `counts` are the true counts of the window's buckets; a request's number decides on its faults.
    """

    counts: Sequence[int]
    width: Width = "1m"
    clamp: int = 1_440
    sparse: bool = False
    newest_first: bool = False
    expire: Callable[[int], bool] = lambda _: False
    repeat: int = 0
    """How many buckets of a page are served once more at the beginning of the next one."""
    restate: bool = False
    """With `repeat`: a bucket that will be served again is wrong at first."""
    most: int = 1_440
    """A page of more buckets is too big to be answered."""
    pauses: int = 0
    """How many empty pages come before each page but the first."""
    has_more: Literal["said", "never said", "denied"] = "said"
    """Whether pages say that there is more; denied: `has_more` is false, whatever follows."""
    end: End = "nothing"
    cap: int = 1_440
    """A limit above it is refused."""
    lie: Lie | None = None
    lie_at: int = 0
    """From this request on, as soon as there is an occasion."""
    requests: list[UsageQuery] = field(default_factory=list[UsageQuery])

    @property
    def query(self) -> UsageQuery:
        return UsageQuery(START, START + len(self.counts) * SECONDS[self.width], self.width)

    async def fetch(self, query: UsageQuery) -> Answer[UsagePage]:
        number = len(self.requests)
        self.requests.append(query)
        if query.limit > self.cap:
            raise Refused(f"400: limit must be at most {self.cap}", 400)
        offset = pause = 0
        if query.page is not None:
            sign, start, end, text = query.page.split("|")
            assert (sign, start, end) == ("é+/=&# %", str(query.start_time), str(query.end_time))
            offset, pause = map(int, text.split("."))
            if offset < 0:
                return self._behind_the_end(query)
            if self.expire(number):
                raise Refused("400: Invalid or expired page cursor", 400)
        if pause:
            page = self._page(query, [], offset, pause - 1)
            return Answer(lied(page, self.lie, query, number) if self.lie else page, 1, 0.001)
        buckets = self._buckets(query)
        limit = min(query.limit, self.clamp)
        first = max(0, offset - self.repeat)
        if min(limit, len(buckets) - first) > self.most:
            raise AnswerTooBig("too big")
        upto = max(first + limit, offset + 1) if offset else limit
        has_more = upto < len(buckets)
        served = buckets[first:upto]
        if self.restate and has_more and self.repeat:
            served = [*served[: -self.repeat], *map(_wrong, served[-self.repeat :])]
        page = self._page(query, served, upto if has_more else None, self.pauses)
        if self.lie and number >= self.lie_at:
            page = lied(page, self.lie, query, number)
        return Answer(page, 1 + 100 * len(served), 0.001)

    def _page(
        self, query: UsageQuery, served: list[Bucket], upto: int | None, pauses: int
    ) -> UsagePage:
        place = -1 if upto is None else upto
        cursor: str | None = f"é+/=&# %|{query.start_time}|{query.end_time}|{place}.{pauses}"
        if upto is None:
            cursor = {"nothing": None, "itself": query.page}.get(self.end, cursor)
        said = {"said": upto is not None, "never said": None, "denied": False}[self.has_more]
        return UsagePage(served, said, cursor)

    def _behind_the_end(self, query: UsageQuery) -> Answer[UsagePage]:
        if self.end == "a refused cursor":
            raise Refused("400: Invalid or expired page cursor", 400)
        assert query.end_time is not None
        end, width = query.end_time, SECONDS[self.width]
        strays = [Bucket(end, end + width, results_of(99))] if self.end == "another window" else []
        return Answer(UsagePage(strays, False, None), 1, 0.001)

    def _buckets(self, query: UsageQuery) -> list[Bucket]:
        assert query.end_time is not None
        width = SECONDS[self.width]
        first, last = (query.start_time - START) // width, (query.end_time - START) // width
        found = [
            Bucket(START + i * width, START + (i + 1) * width, results_of(self.counts[i]))
            for i in range(first, last)
            if self.counts[i] or not self.sparse
        ]
        return found[::-1] if self.newest_first else found


def results_of(count: int) -> list[Result]:
    return [Result(user_id="u", num_operations=count)] if count else []


def _wrong(bucket: Bucket) -> Bucket:
    return Bucket(bucket.start_time, bucket.end_time, [*bucket.results, *results_of(99)])


def lied(page: UsagePage, lie: Lie, query: UsageQuery, number: int) -> UsagePage:
    """`page` with a lie in it; some lies need a page that promises more, or has a bucket."""
    assert query.end_time is not None
    width = SECONDS[query.bucket_width]
    strays: Mapping[Lie, tuple[int, int]] = {
        "before the window": (query.start_time - width, query.start_time),
        "after the window": (query.end_time, query.end_time + width),
        "another width": (query.start_time, query.start_time + width * 2),
        "off the edge": (query.start_time + 1, query.start_time + 1 + width),
        "upside down": (query.start_time, query.start_time - width),
    }
    if lie in strays:
        return replace(page, buckets=[*page.buckets, Bucket(*strays[lie], [])])
    if lie == "repeated cursor":
        cursor = query.page or f"é+/=&# %|{query.start_time}|{query.end_time}|0.0"
        return replace(page, has_more=True, next_page=cursor)
    if not page.has_more:
        return page
    if lie == "empty for ever":
        cursor = f"é+/=&# %|{query.start_time}|{query.end_time}|0.{number + 1}"
        return replace(page, buckets=[], next_page=cursor)
    return replace(page, next_page=None if lie == "no cursor" else "")
