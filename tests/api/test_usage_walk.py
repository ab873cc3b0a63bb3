"""A walk brings exactly what the server has, or it fails: it never brings something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.api import (
    AnswerTooBig,
    BucketTooBig,
    PageSize,
    PagingError,
    Refused,
    UsagePage,
    UsageQuery,
)
from pipeline.api.client import Answer
from pipeline.api.usage import Bucket, Result
from pipeline.api.usage_walk import walk_narrowing, walk_usage
from pipeline.timeline import SECONDS, Width
from tests.api.usage_model import LIES, START, End, Lie, Server, results_of


def walk(server: Server, size: PageSize | None = None) -> list[int]:
    """The counts that a walk brings; of a bucket served twice the later serving counts, whole."""
    width = SECONDS[server.width]
    found: dict[int, int] = {}

    async def run() -> None:
        async for page in walk_usage(server.fetch, server.query, size):
            for bucket in page.buckets:
                place = (bucket.start_time - START) // width
                found[place] = sum(result.num_operations or 0 for result in bucket.results)

    asyncio.run(run())
    return [found.get(place, 0) for place in range(len(server.counts))]


COUNTS = st.lists(st.integers(0, 3), min_size=1, max_size=130)


@given(
    counts=COUNTS,
    width=st.sampled_from(["1m", "1h", "1d"]),
    clamp=st.integers(1, 40),
    most=st.integers(1, 200),
    sparse=st.booleans(),
    newest_first=st.booleans(),
    repeat=st.integers(0, 3),
    expired=st.one_of(
        st.frozensets(st.integers(0, 300)).map(lambda numbers: numbers.__contains__),
        st.integers(1, 4).map(lambda every: lambda number: number % every == 0),
    ),
    buckets=st.integers(1, 1_440),
    pauses=st.integers(0, 3),
    has_more=st.sampled_from(["said", "said", "never said"]),
    end=st.sampled_from(get_args(End)),
    cap=st.sampled_from([1_440, 168, 31, 7, 1]),
)
@settings(max_examples=400, deadline=None)
def test_a_walk_brings_exactly_the_truth_in_a_bounded_number_of_requests(
    counts: list[int],
    width: Width,
    clamp: int,
    most: int,
    sparse: bool,
    newest_first: bool,
    repeat: int,
    expired: Callable[[int], bool],
    buckets: int,
    pauses: int,
    has_more: Literal["said", "never said"],
    end: End,
    cap: int,
) -> None:
    repeat = min(repeat, most - 1, clamp - 1)  # what is repeated must leave room for what is new
    server = Server(counts, width, clamp, sparse, newest_first, expired, repeat, most=most)
    server.pauses, server.has_more, server.end, server.cap = pauses, has_more, end, cap
    assert walk(server, PageSize(buckets=buckets)) == counts
    assert len(server.requests) <= (8 + 2 * pauses) * len(counts) + 40


@given(counts=COUNTS, clamp=st.integers(2, 40), repeat=st.integers(1, 3), sparse=st.booleans())
def test_of_a_bucket_served_twice_the_later_serving_comes_later(
    counts: list[int], clamp: int, repeat: int, sparse: bool
) -> None:
    repeat = min(repeat, clamp - 1)
    server = Server(counts, clamp=clamp, sparse=sparse, repeat=repeat, restate=True)
    assert walk(server) == counts


@given(
    counts=st.lists(st.integers(0, 3), min_size=20, max_size=130),
    lie=st.sampled_from(LIES),
    lie_at=st.integers(0, 2),
    clamp=st.integers(1, 6),
    newest_first=st.booleans(),
)
@settings(deadline=None)
def test_a_server_that_lies_is_found_out(
    counts: list[int], lie: Lie, lie_at: int, clamp: int, newest_first: bool
) -> None:
    server = Server(counts, clamp=clamp, newest_first=newest_first, lie=lie, lie_at=lie_at)
    # 20 buckets or more, at most 6 on a page: the third page promises more, so it can lie about it.
    with pytest.raises(PagingError):
        walk(server, PageSize(buckets=1_440))
    assert len(server.requests) <= 2 * len(counts) + 20


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("repeated cursor", "next_page that it gave before"),
        ("no cursor", "no next_page"),
        ("empty cursor", "no next_page"),
        ("empty for ever", "no new bucket in 31 pages"),
        ("before the window", "2023-12-31T23:59:00Z, outside the window"),
        ("after the window", "2024-01-01T00:30:00Z, outside the window"),
        ("another width", "2024-01-01T00:02:00Z, which is no 1m bucket"),
        ("off the edge", "2024-01-01T00:00:01Z to"),
        ("upside down", "to 2023-12-31T23:59:00Z, which is no 1m bucket"),
    ],
)
def test_a_paging_error_says_what_was_asked_and_what_came_back(lie: Lie, words: str) -> None:
    with pytest.raises(PagingError) as caught:
        walk(Server([1] * 30, clamp=5, lie=lie))
    assert words in str(caught.value)
    assert "1m buckets of [2024-01-01T00:00:00Z, 2024-01-01T00:30:00Z)" in str(caught.value)
    assert "report it to MKA1" in str(caught.value)


def test_what_a_cursor_leads_to_behind_the_window_must_be_buckets() -> None:
    pages = {
        None: UsagePage([Bucket(START, START + 60, results_of(1))], None, "on"),
        "on": UsagePage([Bucket(START + 720, START + 120, results_of(1))], True, "further"),
    }

    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        return Answer(pages[query.page], 100, 0.001)

    async def run() -> None:
        async for _ in walk_usage(fetch, UsageQuery(START, START + 480, "1m")):
            pass

    with pytest.raises(PagingError, match="which is no 1m bucket"):
        asyncio.run(run())


def test_a_server_that_promises_more_for_ever_is_found_out() -> None:
    asked = 0

    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        nonlocal asked
        asked += 1
        assert asked < 50, "the walk would never end"
        bucket = Bucket(START, START + 60, results_of(1))
        return Answer(UsagePage([bucket], True, f"cursor {asked}"), 100, 0.001)

    async def run() -> None:
        async for _ in walk_usage(fetch, Server([1] * 30).query):
            pass

    with pytest.raises(PagingError, match="no new bucket"):
        asyncio.run(run())


@pytest.mark.parametrize("clamp", [1, 5, 29])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("end", get_args(End))
def test_more_behind_a_page_that_denies_it_is_an_error(clamp: int, sparse: bool, end: End) -> None:
    counts = [0, 2, 0, 0, 5] * 6
    server = Server(counts, clamp=clamp, sparse=sparse, has_more="denied", end=end)
    if sparse and clamp > 12:  # all that there is stands on one page
        assert walk(server) == counts
        return
    with pytest.raises(PagingError, match="says that there is no more"):
        walk(server)


@pytest.mark.parametrize("end", get_args(End))
def test_a_cursor_that_leads_to_nothing_is_no_contradiction(end: End) -> None:
    counts = [3, 2, 0, 0, 0] + [0] * 25
    server = Server(counts, clamp=2, has_more="denied", end=end)
    assert walk(server) == counts


@pytest.mark.parametrize("end", get_args(End))
def test_a_cursor_behind_a_whole_window_is_not_followed(end: End) -> None:
    server = Server([1] * 30, end=end)
    assert walk(server) == [1] * 30
    assert len(server.requests) == 1


@pytest.mark.parametrize("pauses", [1, 10, 30])
def test_empty_pages_with_new_cursors_are_followed(pauses: int) -> None:
    server = Server([1] * 30, clamp=7, pauses=pauses)
    assert walk(server) == [1] * 30


def test_a_bucket_that_is_promised_behind_a_cursor_that_is_refused_is_an_error() -> None:
    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        if query.page is not None:
            raise Refused("no", 400)
        return Answer(UsagePage([], True, "cursor"), 100, 0.001)

    async def run() -> None:
        async for _ in walk_usage(fetch, Server([1] * 30).query):
            pass

    with pytest.raises(PagingError, match="refuses its own cursor"):
        asyncio.run(run())


@pytest.mark.parametrize("cursor", ["half \\ud83d", "\\x{ff}"])
def test_a_cursor_that_cannot_be_sent_is_one_that_is_refused(cursor: str) -> None:
    server = Server([1] * 30, clamp=7)

    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        answer = await server.fetch(query)
        page = replace(answer.value, next_page=cursor if answer.value.has_more else None)
        return replace(answer, value=page)

    async def run() -> list[int]:
        pages = walk_usage(fetch, server.query)
        return [bucket.start_time async for page in pages for bucket in page.buckets]

    assert asyncio.run(run()) == list(range(START, START + 30 * 60, 60))


@pytest.mark.parametrize(
    ("width", "cap", "buckets", "refused"),
    [("1h", 168, 400, 1), ("1d", 31, 400, 2), ("1d", 30, 400, 3), ("1m", 1, 40, 3)],
)
def test_a_limit_that_a_server_has_at_a_width_is_learnt_once(
    width: Width, cap: int, buckets: int, refused: int
) -> None:
    size = PageSize(buckets=1_440)
    for walked in range(2):
        server = Server([1] * buckets, width, cap=cap)
        assert walk(server, size) == server.counts
        assert sum(query.limit > cap for query in server.requests) == (0 if walked else refused)
    other: Width = "1h" if width == "1m" else "1m"
    assert (size.allowed(width), size.allowed(other)) == (
        max(limit for limit in (168, 31, 7, 1) if limit <= cap),
        1_440,
    )


@pytest.mark.parametrize("status", [400, 422])
def test_what_is_refused_at_any_limit_is_refused_as_at_first(status: int) -> None:
    asked: list[int] = []
    size = PageSize(buckets=1_440)

    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        asked.append(query.limit)
        raise Refused(f"at {query.limit}", status)

    with pytest.raises(Refused, match="at 1000"):
        asyncio.run(anext(walk_usage(fetch, Server([1] * 1_000).query, size)))  # type: ignore[arg-type]  # as a coroutine
    assert asked == [1_000, 168, 31, 7, 1]
    assert size.allowed("1m") == 1_440, "it was not about the limit"


@pytest.mark.parametrize("status", [401, 403, 404, 410, 301])
def test_other_refusals_of_a_first_page_are_not_about_its_limit(status: int) -> None:
    asked: list[int] = []

    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        asked.append(query.limit)
        raise Refused("no", status)

    with pytest.raises(Refused, match="no"):
        asyncio.run(anext(walk_usage(fetch, Server([1] * 30).query)))  # type: ignore[arg-type]  # as a coroutine
    assert asked == [30]


class Wide:
    """Days, hours and minutes of one truth, of which too many results are too big to be answered.

    `served_twice`: a page ends with its last bucket once more, wrong in the first serving.
    """

    def __init__(self, minutes: dict[int, int], most: int, *, served_twice: bool = False) -> None:
        self.minutes, self.most, self.served_twice = minutes, most, served_twice
        self.requests: list[UsageQuery] = []

    async def fetch(self, query: UsageQuery) -> Answer[UsagePage]:
        self.requests.append(query)
        assert query.end_time is not None
        width = SECONDS[query.bucket_width]
        buckets = [
            Bucket(
                start,
                start + width,
                [Result(num_operations=count) for count in self._within(start, width)],
            )
            for start in range(query.start_time, query.end_time, width)
        ][: query.limit]
        if sum(len(bucket.results) for bucket in buckets) > self.most:
            raise AnswerTooBig("too big", slow=False)
        if self.served_twice:
            *before, last = buckets
            buckets = [*before, Bucket(last.start_time, last.end_time, results_of(99)), last]
        more = buckets[-1].end_time < query.end_time
        assert not more
        return Answer(UsagePage(buckets, False, None), 100 * len(buckets), 0.001)

    def _within(self, start: int, width: int) -> list[int]:
        counts = self.minutes.items()
        return [count for minute, count in counts if start <= minute < start + width]

    def sums(self, days: int) -> dict[int, int]:
        """What `walk_narrowing` says of each day, added up as its text says."""
        counted: dict[int, int] = {}

        async def run() -> None:
            query = UsageQuery(START, START + days * 86_400, "1d")
            async for bucket in walk_narrowing(self.fetch, query, PageSize(buckets=1_440)):
                day = bucket.start_time // 86_400 * 86_400
                count = sum(result.num_operations or 0 for result in bucket.results)
                whole = bucket.end_time - bucket.start_time == 86_400
                counted[day] = count if whole else counted.get(day, 0) + count

        asyncio.run(run())
        return counted


@given(
    minutes=st.dictionaries(
        st.integers(0, 3 * 1_440 - 1).map(lambda minute: START + 60 * minute),
        st.integers(1, 5),
        max_size=40,
    ),
    most=st.integers(1, 12),
    served_twice=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_bucket_too_big_for_an_answer_is_summed_from_narrower_ones(
    minutes: dict[int, int], most: int, served_twice: bool
) -> None:
    wide = Wide(minutes, most, served_twice=served_twice)
    expected = {START + 86_400 * day: 0 for day in range(3)}
    for minute, count in minutes.items():
        expected[minute // 86_400 * 86_400] += count
    assert wide.sums(3) == expected


def test_a_minute_too_big_for_an_answer_is_said_to_be() -> None:
    with pytest.raises(BucketTooBig) as caught:
        Wide({START + 60: 1}, 0).sums(1)
    assert (caught.value.start, caught.value.end) == (START + 60, START + 120)


@pytest.mark.parametrize("times", [2, 9])
def test_a_whole_page_may_be_served_again(times: int) -> None:
    """A slow server may hand out the same page under several cursors before it goes on."""

    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        number = int(query.page or 0)
        place = number // times
        bucket = Bucket(START + 60 * place, START + 60 * place + 60, results_of(place + 1))
        more = number < 3 * times - 1
        return Answer(UsagePage([bucket], more, str(number + 1) if more else None), 100, 0.001)

    async def run() -> list[int]:
        query = Server([1, 2, 3]).query
        return [p.buckets[0].start_time async for p in walk_usage(fetch, query)]

    assert asyncio.run(run()) == [START + 60 * place for place in (0, 1, 2) for _ in range(times)]


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_expired_cursor_costs_no_bucket_that_was_already_complete(status: int) -> None:
    class Expiring(Server):
        async def fetch(self, query: UsageQuery) -> Answer[UsagePage]:
            if len(self.requests) == 2:
                self.requests.append(query)
                raise Refused("expired", status)
            return await super().fetch(query)

    server = Expiring([1] * 30, clamp=5)
    assert walk(server) == [1] * 30
    anew = server.requests[3]
    assert (anew.page, anew.start_time) == (None, START + 10 * 60)


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_question_that_is_refused_without_a_cursor_is_refused(status: int) -> None:
    async def fetch(query: UsageQuery) -> Answer[UsagePage]:
        raise Refused("no", status)

    with pytest.raises(Refused, match="no"):
        asyncio.run(anext(walk_usage(fetch, Server([1]).query)))  # type: ignore[arg-type]  # as a coroutine


def test_a_cursor_refused_for_another_reason_ends_the_walk() -> None:
    class Moved(Server):
        async def fetch(self, query: UsageQuery) -> Answer[UsagePage]:
            if query.page:
                raise Refused("moved", 301)
            return await super().fetch(query)

    with pytest.raises(Refused, match="moved"):
        walk(Moved([1] * 9, clamp=3))


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_server_that_refuses_every_cursor_is_still_read_whole(
    newest_first: bool, sparse: bool
) -> None:
    """One bucket on a page, the newest first: what was served says nothing about what was not."""
    counts = [0, 1, 0, 2, 0, 0, 3, 0]
    server = Server(counts, clamp=1, sparse=sparse, newest_first=newest_first)
    server.expire = lambda _: True
    assert walk(server) == counts


def test_a_single_bucket_that_stays_too_big_ends_the_walk() -> None:
    server = Server([1] * 30, most=0)
    with pytest.raises(AnswerTooBig):
        walk(server)
    assert len(server.requests) < 10
    assert server.requests[-1].limit == 1


def test_a_single_bucket_that_was_too_slow_once_is_asked_for_again() -> None:
    class Slow(Server):
        async def fetch(self, query: UsageQuery) -> Answer[UsagePage]:
            if len(self.requests) < 2:
                self.requests.append(query)
                raise AnswerTooBig("slow")
            return await super().fetch(query)

    assert walk(Slow([7])) == [7]


@pytest.mark.parametrize(
    "query",
    [
        UsageQuery(START),
        UsageQuery(START, START + 60, "1m", page="x"),
        UsageQuery(START + 1, START + 60, "1m"),
        UsageQuery(START, START + 61, "1m"),
        UsageQuery(START, START + 60, "1h"),
        UsageQuery(START + 3_600, START + 86_400, "1d"),
    ],
)
def test_a_window_without_an_end_or_off_the_edges_is_refused(query: UsageQuery) -> None:
    server = Server([1])
    with pytest.raises(ValueError, match="a walk"):
        asyncio.run(anext(walk_usage(server.fetch, query)))  # type: ignore[arg-type]  # as a coroutine
    assert server.requests == []


def test_every_other_part_of_the_question_is_kept() -> None:
    server = Server([1] * 30, clamp=7)
    asked = replace(server.query, user_ids=["a", "b"], group_by=["user_id"], on_behalf_of="o")

    async def run() -> None:
        async for _ in walk_usage(server.fetch, asked):
            pass

    asyncio.run(run())
    assert {(tuple(q.user_ids), tuple(q.group_by), q.on_behalf_of) for q in server.requests} == {
        (("a", "b"), ("user_id",), "o")
    }
