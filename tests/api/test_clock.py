"""Where the machine's clock is ahead of the API's, the API's counts."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.api import Client, Clock, Refused, UsageQuery, get_usage
from pipeline.api.clock import TOLERANCE

NOON = 1_704_110_400.0


def clock(now: float = NOON) -> Clock:
    return Clock(lambda: now)


@pytest.mark.parametrize(
    ("headers", "ahead"),
    [
        ({"Date": formatdate(NOON - 86_400, usegmt=True)}, 86_400.0),
        ({"Date": formatdate(NOON - 61, usegmt=True)}, 61.0),
        ({"Date": formatdate(NOON - 60, usegmt=True)}, 0.0),
        ({"Date": formatdate(NOON, usegmt=True)}, 0.0),
        ({"Date": formatdate(NOON + 86_400, usegmt=True)}, 0.0),
        ({"Date": formatdate(NOON - 600, usegmt=True), "Age": "600"}, 0.0),
        ({"Date": formatdate(NOON - 600, usegmt=True), "Age": "300"}, 300.0),
        ({"Date": "Mon, 01 Jan 2024 10:00:00 -0000"}, 7_200.0),
        ({"Date": "Mon, 01 Jan 2024 12:00:00 +0200"}, 7_200.0),
        ({}, 0.0),
        ({"Date": ""}, 0.0),
        ({"Date": "yesterday"}, 0.0),
        ({"Date": "Mon, 99 Jan 2024 10:00:00 GMT"}, 0.0),
        ({"Date": formatdate(NOON - 600, usegmt=True), "Age": "old"}, 0.0),
    ],
)
def test_an_answer_says_how_far_the_clock_is_ahead(headers: dict[str, str], ahead: float) -> None:
    it = clock()
    it.heard(headers, NOON)
    assert it.ahead == ahead
    assert it() == NOON - ahead


@given(
    skew=st.floats(-1e9, 1e9).map(round),
    seconds=st.lists(st.floats(0, 600), min_size=1),
    quick=st.floats(0, 1),
)
def test_slow_answers_blame_no_clock(skew: int, seconds: list[float], quick: float) -> None:
    """However slow the answers are, of a clock that is right none is said to be ahead."""
    it = clock(NOON + skew)
    for slow in [*seconds, quick]:
        it.heard({"Date": formatdate(int(NOON + slow), usegmt=True)}, NOON + skew)
    assert it.ahead <= max(0.0, skew + 1)
    assert it.ahead == 0.0 if skew <= TOLERANCE - 1 else it.ahead >= skew - 601 or it.ahead == 0.0
    of_api = it.of_api()
    assert of_api is not None
    assert NOON - 1 <= of_api <= NOON + 600


def test_until_an_answer_has_come_the_clock_is_believed() -> None:
    assert clock()() == NOON
    assert clock().of_api() is None


def test_a_clock_over_another_is_corrected_once() -> None:
    it = clock()
    it.heard({"Date": formatdate(NOON - 7_200, usegmt=True)}, NOON)
    assert it.over(lambda: NOON + 5)() == NOON + 5 - 7_200
    assert it.over(it)() == NOON - 7_200


@pytest.mark.parametrize("status", [200, 400])
def test_a_client_hears_the_time_from_every_answer_also_from_a_refusal(status: int) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        date = formatdate(NOON - 3_600, usegmt=True)
        return httpx.Response(status, json={"data": [], "has_more": False}, headers={"Date": date})

    async def ask() -> float:
        transport = httpx.MockTransport(answer)
        async with Client(
            "http://127.0.0.1", SecretStr("key"), transport=transport, now=lambda: NOON
        ) as client:
            try:
                await get_usage(client, UsageQuery(0, 60))
            except Refused:
                assert status == 400
            return client.clock.ahead

    assert asyncio.run(ask()) == 3_600.0
