"""A request that may succeed later is tried again, for as long as it may, and then says so."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.api import (
    Client,
    Limits,
    QuotaExhausted,
    Refused,
    Unavailable,
    UsageQuery,
    get_usage,
)
from tests.bounded import join

Ask = Callable[..., Any]
Reply = dict[str, Any] | Exception
GOOD: dict[str, Any] = {"content": b'{"data": [], "has_more": false, "next_page": null}'}
NOW = datetime.fromtimestamp(1_700_000_000, UTC)  # as the clock of `ask` stands


def http_date(seconds_from_now: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds_from_now), usegmt=True)


def later(status: int, retry_after: str | bytes) -> dict[str, Any]:
    return {"status_code": status, "headers": {"Retry-After": retry_after}}


@pytest.mark.parametrize(
    "reply",
    [
        *({"status_code": status} for status in (408, 421, 425, 429)),
        *({"status_code": status} for status in (500, 502, 503, 504, 507, 520, 529, 599)),
        {"json": {"error": "Rate limit exceeded"}},
        {"json": {"error": {"code": 503}, "data": None}},
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("too slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        {"content": b""},
        {"content": b"<html>one moment, please</html>"},
        {"content": GOOD["content"][:30]},
        {"content": b'{"data": [], "has_more": false, "next_page": "\xff'},
        {"content": b'{"data": [], \xff"has_more": false}'},
        {"status_code": 503, "content": b"?", "headers": {"Content-Encoding": "br"}},
        {
            "content": gzip.compress(GOOD["content"])[:-12],
            "headers": {"Content-Encoding": "gzip"},
        },
    ],
)
def test_what_may_pass_is_tried_again(ask: Ask, reply: Reply) -> None:
    asked = ask(reply, GOOD)
    assert asked.answer is not None
    assert len(asked.sent) == 2
    assert 0.5 <= asked.waits[0] <= 1.0


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (later(429, "7"), "retrying: 429: (no body); next try in 7 s"),
        ({"status_code": 503, "content": b"down"}, "retrying: 503: down; next try in 1 s"),
        (
            httpx.ConnectError("All connection attempts failed"),
            "retrying: no connection: ConnectError All connection attempts failed; next try in 1 s",
        ),
        (
            {"status_code": 500, "content": b"x" * 9_999},
            f"retrying: 500: {'x' * 115}…; next try in 1 s",
        ),
    ],
)
def test_it_is_told_why_and_when_it_is_tried_again(ask: Ask, reply: Reply, said: str) -> None:
    assert ask(reply, GOOD).retries == [said]
    assert ask(GOOD).retries == []


def test_a_request_that_is_given_up_is_not_told_to_be_tried_again(ask: Ask) -> None:
    asked = ask({"status_code": 503}, attempts=3)
    assert (len(asked.sent), len(asked.retries)) == (3, 2)


def test_a_body_that_is_no_gzip_is_tried_again(ask: Ask) -> None:
    class Garbled(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"no gzip"

    asked = ask({"stream": Garbled(), "headers": {"Content-Encoding": "gzip"}}, GOOD)
    assert asked.answer is not None


@pytest.mark.parametrize("status", [501, 505, 511])
def test_a_server_error_that_stays_is_not_tried_again(ask: Ask, status: int) -> None:
    asked = ask({"status_code": status, "text": "not here"}, GOOD)
    assert isinstance(asked.error, Refused)
    assert len(asked.sent) == 1
    assert f"refused with {status}: not here" in asked.message


def test_what_a_gateway_says_in_the_place_of_a_page_is_told(ask: Ask) -> None:
    asked = ask({"json": {"error": "upstream is away"}}, attempts=2)
    assert isinstance(asked.error, Unavailable)
    assert "after 2 tries" in asked.message
    assert "upstream is away" in asked.message


def test_of_a_page_that_is_cut_nothing_is_told(ask: Ask) -> None:
    cut = b'{"data": [{"start_time": 0, "end_time": 60, "results": [{"user_id": "somebody'
    for body in (cut, cut + b'"}]}], "error": "partly"}'):
        assert "somebody" not in ask({"content": body}, attempts=1).message


def test_a_connection_that_leads_to_the_wrong_server_is_not_used_again() -> None:
    """421 (RFC 9110, 15.5.20), with bodies of any length, over real sockets."""
    peers: list[tuple[str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            peers.append(self.client_address)
            wrong = len(peers) < 3
            body = b"wrong server"[: 12 * (len(peers) % 2)] if wrong else GOOD["content"]
            self.send_response(421 if wrong else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    async def no_wait(_: float) -> None:
        pass

    async def run(url: str) -> None:
        limits = Limits(concurrency=1)
        async with Client(url, SecretStr("k"), limits, sleep=no_wait) as client:
            await get_usage(client, UsageQuery(0, 60, "1m"))

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A connection that the client closes is what is wanted."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            asyncio.run(run(f"http://127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()
            join(thread)
    assert len(set(peers)) == 3, "each try had a connection of its own"


def test_waits_double_and_jitter_up_to_the_longest(ask: Ask) -> None:
    runs = [ask({"status_code": 503}, longest_wait=10).waits for _ in range(5)]
    for waits in runs:
        for wait, least in zip(waits, [0.5, 1, 2, 4, 8, 10, 10, 10], strict=False):
            assert least <= wait <= min(least + 0.5, 10)
    assert len({waits[0] for waits in runs}) > 1, "no jitter"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("7.5", 7.5, 7.5),
        (http_date(9), 9, 9),
        (http_date(9).replace("GMT", "-0000"), 9, 9),
        (http_date(9).removesuffix(" GMT"), 9, 9),
        (format_datetime((NOW + timedelta(seconds=9)).astimezone()), 9, 9),
        ("100", 30, 30),
        # None of these may mean: at once, again and again.
        ("0", 0.5, 1),
        ("-5", 0.5, 1),
        (http_date(-3600), 0.5, 1),
        ("soon", 0.5, 1),
        ("nan", 0.5, 1),
        ("inf", 0.5, 1),
        ("", 0.5, 1),
        ("5, 5", 0.5, 1),
        ("Thu, 99 Foo 2023 99:99:99 GMT", 0.5, 1),
        # Nor may these be meant: a moment, milliseconds, years.
        (str(NOW.timestamp() + 1), 0.5, 1),
        (str(int(NOW.timestamp()) + 1), 0.5, 1),
        (str(int(NOW.timestamp() * 1000)), 0.5, 1),
        ("120000", 0.5, 1),
        ("31536000", 0.5, 1),
        ("1e300", 0.5, 1),
        (http_date(400 * 86_400), 0.5, 1),
        (http_date(-400 * 86_400), 0.5, 1),
    ],
)
def test_retry_after_is_the_least_that_is_waited_up_to_a_cap(
    ask: Ask, status: int, header: str, least: float, most: float
) -> None:
    asked = ask(later(status, header), GOOD)
    assert asked.answer is not None
    assert least <= asked.waits[0] <= most


@given(
    header=st.binary(max_size=40).filter(lambda value: b"\r" not in value and b"\n" not in value)
)
def test_no_retry_after_header_breaks_the_client(ask: Ask, header: bytes) -> None:
    asked = ask(later(503, header), GOOD)
    assert asked.answer is not None or asked.waits == []
    assert all(0.5 <= wait <= 30 for wait in asked.waits)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["3600", "86400", "90000", http_date(3600), http_date(86_400)])
def test_a_wait_beyond_the_budget_ends_at_once(ask: Ask, status: int, header: str) -> None:
    asked = ask(later(status, header))
    assert (len(asked.sent), asked.waits) == (1, [])
    assert isinstance(asked.error, QuotaExhausted if status == 429 else Unavailable)


def test_a_wait_beyond_what_is_left_of_the_budget_ends_at_once(ask: Ask) -> None:
    asked = ask(later(503, "30"), later(503, "30"), later(503, "100"), retry_seconds=120)
    assert asked.waits == [30, 30]


def test_a_spent_quota_says_how_long_the_server_wants_to_be_left_alone(ask: Ask) -> None:
    body = {"error": "Rate limit exceeded"}
    asked = ask({**later(429, "3600"), "json": body})
    assert asked.error.retry_after == 3600
    assert "Rate limit exceeded" in asked.message
    assert "in 3,600 s" in asked.message
    assert "start_time=0&end_time=3600" in asked.message


def test_a_quota_that_stays_spent_ends_within_the_budget(ask: Ask) -> None:
    asked = ask({"status_code": 429})
    assert isinstance(asked.error, QuotaExhausted)
    assert asked.error.retry_after is None
    assert 60 < sum(asked.waits) <= 120


@pytest.mark.parametrize(
    "reply", [{"status_code": 503}, later(503, "0"), later(503, "1"), httpx.ReadError("reset")]
)
@pytest.mark.parametrize("budget", [0, 1, 20, 120])
def test_the_budget_is_used_and_not_exceeded(ask: Ask, reply: Reply, budget: float) -> None:
    asked = ask(reply, retry_seconds=budget)
    assert isinstance(asked.error, Unavailable)
    assert budget / 2 - 1 <= sum(asked.waits) <= budget


def test_tries_are_counted_too(ask: Ask) -> None:
    asked = ask({"status_code": 503}, attempts=3)
    assert len(asked.sent) == 3
    assert "after 3 tries" in asked.message


def test_giving_up_says_what_was_asked_and_what_came_back_last(ask: Ask) -> None:
    broken = {"status_code": 502, "text": "upstream  \n gone"}
    asked = ask(httpx.ReadError("reset"), broken, attempts=2)
    assert "GET https://api.example/api/v1/llm/usage/conversations?start_time=0" in asked.message
    assert "502: upstream gone" in asked.message
    assert ask(httpx.ReadError("by peer")).message.count("ReadError by peer") == 1
    assert "200 with a body that is not whole JSON" in ask({"content": b"<html>"}).message


def test_an_outage_after_a_429_is_no_spent_quota(ask: Ask) -> None:
    assert isinstance(ask({"status_code": 429}, {"status_code": 500}).error, Unavailable)
