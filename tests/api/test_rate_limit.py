"""Requests leave no faster than they may, and slower after a 429."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, pairwise
from math import ceil
from multiprocessing.connection import Connection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.api.rate_limit import Quota, RateLimiter, quota_of
from pipeline.settings import load_settings
from tests import bounded
from tests.loopback import answering

InNoTime = Callable[..., Any]
EPSILON = 1e-6


def departures(pace: RateLimiter, count: int, in_no_time: InNoTime) -> list[float]:
    """When `count` requests leave that all come at once, in seconds from the first.

    They are answered at once.
    """

    async def run() -> list[float]:
        clock = asyncio.get_running_loop().time
        left: list[float] = []

        async def one() -> None:
            async with pace.turn():
                left.append(clock())

        await asyncio.gather(*(one() for _ in range(count)))
        return [moment - left[0] for moment in left]

    found: list[float] = in_no_time(run())
    return found


def most_in_a_second(moments: list[float]) -> int:
    return max(sum(first <= m < first + 1 - EPSILON for m in moments) for first in moments)


@given(rate=st.floats(0.01, 100), count=st.integers(1, 150))
def test_no_second_ever_holds_more_requests_than_the_rate(
    in_no_time: InNoTime, rate: float, count: int
) -> None:
    assert most_in_a_second(departures(RateLimiter(rate), count, in_no_time)) <= ceil(rate)


@given(rate=st.floats(0.01, 100), count=st.integers(2, 150))
def test_the_rate_is_used(in_no_time: InNoTime, rate: float, count: int) -> None:
    """Whoever waits does not wait much longer than the rate asks for."""
    assert departures(RateLimiter(rate), count, in_no_time)[-1] <= 1.1 * count / rate + EPSILON


def test_the_first_requests_of_a_second_need_not_wait(in_no_time: InNoTime) -> None:
    moments = departures(RateLimiter(20), 41, in_no_time)
    assert [round(m, 3) for m in (moments[19], moments[20], moments[40])] == [0, 1, 2]


def test_after_a_429_requests_leave_evenly_at_half_the_rate(in_no_time: InNoTime) -> None:
    pace = RateLimiter(20)
    pace.too_fast(0)
    moments = departures(pace, 5, in_no_time)
    assert moments == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)


def test_requests_that_are_waiting_feel_a_429_too(in_no_time: InNoTime) -> None:
    async def run() -> list[float]:
        pace, clock, left = RateLimiter(10), asyncio.get_running_loop().time, list[float]()

        async def one() -> None:
            async with pace.turn():
                left.append(clock())

        waiting = [asyncio.create_task(one()) for _ in range(14)]
        await asyncio.sleep(0.5)
        assert len(left) == 10, "a burst, and four that wait"
        pace.too_fast(0)
        await asyncio.gather(*waiting)
        return left[10:]

    late = in_no_time(run())
    assert [b - a for a, b in pairwise(late)] == pytest.approx([0.2] * 3)


@given(
    events=st.lists(st.sampled_from(["turn", "429", "well"]), max_size=120),
    ceiling=st.floats(0.001, 50),
)
def test_the_rate_stays_below_its_ceiling_whatever_the_server_answers(
    in_no_time: InNoTime, events: list[str], ceiling: float
) -> None:
    async def run() -> None:
        pace, generation = RateLimiter(ceiling), 0
        for event in events:
            if event == "turn":
                async with pace.turn() as generation:
                    pass
            elif event == "429":
                pace.too_fast(generation)
            else:
                pace.went_well()
            assert min(ceiling, 1 / 30) <= pace.rate <= ceiling

    in_no_time(run())


def test_a_wave_of_429s_halves_once() -> None:
    pace = RateLimiter(16)
    for _ in range(5):
        pace.too_fast(0)
    assert pace.rate == 8
    pace.too_fast(1)
    assert pace.rate == 4


def test_a_429_counts_although_the_rate_was_raised_while_it_was_on_its_way() -> None:
    pace = RateLimiter(16)
    pace.too_fast(0)
    for _ in range(10):
        pace.went_well()
    assert pace.rate == 10
    pace.too_fast(1)
    assert pace.rate == 5


def test_the_rate_comes_back_step_by_step() -> None:
    pace, rates = RateLimiter(16), list[float]()
    pace.too_fast(0)
    for _ in range(4):
        for _ in range(9):
            pace.went_well()
        rates.append(pace.rate)
        pace.went_well()
    assert rates == [8, 10, 12.5, 15.625]
    assert pace.rate == 16


def test_a_429_in_between_starts_the_count_anew() -> None:
    pace = RateLimiter(16)
    pace.too_fast(0)
    for _ in range(9):
        pace.went_well()
    pace.too_fast(0)
    pace.went_well()
    assert pace.rate == 8


def test_a_request_that_is_cancelled_holds_up_nobody(in_no_time: InNoTime) -> None:
    async def run() -> float:
        pace, clock = RateLimiter(1), asyncio.get_running_loop().time

        async def one() -> None:
            async with pace.turn():
                pass

        await one()
        began = clock()
        gone = asyncio.create_task(one())
        await asyncio.sleep(0.5)
        gone.cancel()
        await one()
        return clock() - began

    assert in_no_time(run()) == pytest.approx(1)


DELAYS = st.lists(st.floats(0, 3), min_size=1, max_size=20)
"""Seconds, of which some pass on the way to the server and the others on the way back."""


@given(
    rate=st.integers(1, 60),
    workers=st.integers(1, 5),
    clients=st.integers(1, 3),
    there=DELAYS,
    back=DELAYS,
)
def test_workers_never_bring_more_than_the_rate_in_a_second_however_long_requests_travel(
    in_no_time: InNoTime,
    rate: int,
    workers: int,
    clients: int,
    there: list[float],
    back: list[float],
) -> None:
    """Each worker has several clients with one key, one after another, and a burst from each."""
    part = load_settings(requests_per_second=rate, workers=min(workers, rate)).requests_per_worker
    arrived: list[float] = []
    there_in_turn, back_in_turn = cycle(there), cycle(back)

    async def request(pace: RateLimiter) -> None:
        async with pace.turn():
            await asyncio.sleep(next(there_in_turn))
            arrived.append(asyncio.get_running_loop().time())
            await asyncio.sleep(next(back_in_turn))

    async def worker() -> None:
        quota = Quota(part)
        for _ in range(clients):
            pace = RateLimiter(part, quota)
            await asyncio.gather(*(request(pace) for _ in range(min(int(part) + 3, 20))))

    async def run() -> None:
        await asyncio.gather(*(worker() for _ in range(min(workers, rate))))

    in_no_time(run())
    arrived.sort()
    assert all(a + 1 <= b for a, b in zip(arrived, arrived[rate:], strict=False))


def test_clients_of_a_key_share_what_the_process_may_send_and_other_keys_have_their_own() -> None:
    one, other = SecretStr("one"), SecretStr("other")
    assert quota_of("https://a", one, 5) is quota_of("https://a", SecretStr("one"), 5)
    assert quota_of("https://a", one, 5) is not quota_of("https://a", other, 5)
    assert quota_of("https://a", one, 5) is not quota_of("https://b", one, 5)


def _ask_as_a_worker(pipe: Connection) -> None:
    """Two clients, one right after the other, as the steps of a run have them."""
    url, rate = pipe.recv()
    key = SecretStr("k")

    async def one_client() -> None:
        limits = Limits(concurrency=8, requests_per_second=rate)
        async with Client(url, key, limits, quota=quota_of(url, key, rate)) as client:
            await asyncio.gather(*(client.get("/", (), len) for _ in range(int(rate) + 2)))

    for _ in range(2):
        asyncio.run(one_client())
    pipe.send("done")


@pytest.mark.slow  # three processes, for as long as the quota asks for
def test_workers_in_processes_of_their_own_keep_within_the_rate_at_a_real_server() -> None:
    """The server says when requests arrived, between their departure and their answer: so a busy
    machine changes how long this takes, and not how many a second brings."""
    settings = load_settings(requests_per_second=32, workers=3)
    with answering(200, body=b"{}") as server, ExitStack() as stack:
        workers = [
            stack.enter_context(bounded.copied(_ask_as_a_worker))[1]
            for _ in range(settings.workers)
        ]
        for pipe in workers:
            pipe.send((server.url, settings.requests_per_worker))
        assert [pipe.recv() for pipe in workers] == ["done"] * 3
    arrived = sorted(server.arrived)
    assert len(arrived) == 3 * 2 * 12
    assert all(a + 1 <= b for a, b in zip(arrived, arrived[32:], strict=False))
