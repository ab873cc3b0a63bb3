"""A model of endpoint 1 as the walk sees it: no HTTP, every freedom, and lies.

Belongs here: what a server may do with true counts. Does not belong here: what a walk makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pipeline.api import Answer, AnswerTooBig, Bucket, Refused, Result, UsagePage, UsageQuery
from pipeline.timeline import SECONDS, Width

START = 1_704_067_200
"""Where every window begins: 2024-01-01T00:00:00Z."""

Lie = Literal[
    "repeated cursor",
    "no cursor",
    "empty cursor",
    "no bucket",
    "before the window",
    "after the window",
    "another width",
    "off the edge",
    "upside down",
]
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
        offset = 0
        if query.page is not None:
            sign, start, end, text = query.page.split("|")
            assert (sign, start, end) == ("é+/=&# %", str(query.start_time), str(query.end_time))
            offset = int(text)
            if self.expire(number):
                raise Refused("400: Invalid or expired page cursor", 400)
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
        cursor = f"é+/=&# %|{query.start_time}|{query.end_time}|{upto}" if has_more else None
        page = UsagePage(served, has_more, cursor)
        if self.lie and number >= self.lie_at:
            page = lied(page, self.lie, query)
        return Answer(page, 1 + 100 * len(served), 0.001)

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


def lied(page: UsagePage, lie: Lie, query: UsageQuery) -> UsagePage:
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
        cursor = query.page or f"é+/=&# %|{query.start_time}|{query.end_time}|0"
        return replace(page, has_more=True, next_page=cursor)
    if not page.has_more:
        return page
    if lie == "no bucket":
        return replace(page, buckets=[])
    return replace(page, next_page=None if lie == "no cursor" else "")
