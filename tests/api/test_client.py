"""One GET brings a whole body within bounds, or an error that says what to do about it."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.api import (
    AnswerTooBig,
    ApiError,
    Client,
    InvalidQuery,
    Limits,
    Refused,
    Unauthorized,
    UnknownCoding,
    UsageQuery,
    get_usage,
)
from pipeline.emulator import EmulatorServer, FaultKind, Faults, World

Ask = Callable[..., Any]
GOOD: dict[str, Any] = {"content": b'{"data": [], "has_more": false, "next_page": null}'}
PATH = "/api/v1/llm/usage/conversations"


class Body(httpx.AsyncByteStream):
    """Some chunks, and then silence where `hangs`; counts how many chunks were taken."""

    def __init__(self, *chunks: bytes, hangs: bool = False) -> None:
        self.chunks, self.hangs, self.taken = chunks, hangs, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.taken += 1
            yield chunk
        if self.hangs:
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, Unauthorized),
        (403, Unauthorized),
        *((status, Refused) for status in (201, 204, 206, 301, 304, 307, 400, 404, 410, 418, 422)),
    ],
)
def test_what_cannot_pass_is_asked_once_and_told(
    ask: Ask, status: int, expected: type[ApiError]
) -> None:
    asked = ask({"status_code": status, "json": {"error": "No such thing"}})
    assert type(asked.error) is expected
    assert len(asked.sent) == 1
    assert f"GET https://api.example{PATH}?start_time=0&end_time=3600" in asked.message
    assert f"{status}" in asked.message
    assert "No such thing" in asked.message


def test_a_refused_key_names_the_setting(ask: Ask) -> None:
    assert "MKA1_API_KEY" in ask({"status_code": 401}).message


def test_a_redirect_is_named_and_never_followed(ask: Ask) -> None:
    asked = ask({"status_code": 307, "headers": {"Location": "https://other.example/x"}}, GOOD)
    assert [request.url.host for request in asked.sent] == ["api.example"]
    assert "https://other.example/x, not followed" in asked.message


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        ("https://api.example/gate/way", "https://api.example/gate/way"),
        ("https://api.example/gate/way/", "https://api.example/gate/way"),
        ("http://[::1]:8600", "http://[::1]:8600"),
        ("https://api.example:8443", "https://api.example:8443"),
    ],
)
def test_a_base_url_may_hold_a_prefix_a_port_or_a_last_slash(
    ask: Ask, base_url: str, expected: str
) -> None:
    asked = ask({"status_code": 404}, base_url=base_url)
    assert str(asked.sent[0].url).startswith(f"{expected}{PATH}?")
    assert f"GET {expected}{PATH}?" in asked.message, "the message says what was asked"


def test_a_gzip_body_is_taken_in(ask: Ask) -> None:
    packed = {"content": gzip.compress(GOOD["content"]), "headers": {"Content-Encoding": "gzip"}}
    asked = ask(packed)
    assert asked.sent[0].headers["Accept-Encoding"] == "gzip"
    assert asked.answer.size == len(GOOD["content"])


@pytest.mark.parametrize(
    ("packed", "coding"),
    [
        (b"".join(gzip.compress(GOOD["content"][at : at + 9]) for at in range(0, 99, 9)), "x-gzip"),
        (zlib.compress(GOOD["content"]), "deflate, identity"),
    ],
    ids=["members", "deflate"],
)
def test_a_body_in_a_coding_that_the_standards_allow_is_taken_in(
    ask: Ask, packed: bytes, coding: str
) -> None:
    asked = ask({"stream": Body(packed), "headers": {"Content-Encoding": coding}})
    assert asked.answer.size == len(GOOD["content"])


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_a_coding_that_is_not_read_is_named_at_once(ask: Ask, coding: str) -> None:
    asked = ask({"stream": Body(b"?"), "headers": {"Content-Encoding": coding}}, GOOD)
    assert isinstance(asked.error, UnknownCoding)
    assert len(asked.sent) == 1
    assert f"a body in the content coding {coding}, which was not asked for" in asked.message


@pytest.mark.parametrize(("status", "expected"), [(400, Refused), (401, Unauthorized)])
@pytest.mark.parametrize("coding", ["br", "gzip"])
def test_a_refusal_is_a_refusal_however_its_body_is_packed(
    ask: Ask, status: int, expected: type[ApiError], coding: str
) -> None:
    reply = {"status_code": status, "stream": Body(b"?"), "headers": {"Content-Encoding": coding}}
    asked = ask(reply, GOOD)
    assert type(asked.error) is expected
    assert len(asked.sent) == 1


def test_a_byte_order_mark_is_left_out(ask: Ask) -> None:
    assert ask({"content": b"\xef\xbb\xbf" + GOOD["content"]}).answer.value.buckets == []


def test_a_body_of_the_largest_size_is_taken_in_and_one_byte_more_is_not(ask: Ask) -> None:
    size = len(GOOD["content"])
    assert ask(GOOD, max_bytes=size).answer.size == size
    asked = ask(GOOD, max_bytes=size - 1)
    assert isinstance(asked.error, AnswerTooBig)
    assert len(asked.sent) == 1, "asking again would bring the same"
    assert "MKA1_USAGE_MAX_ANSWER_MB" in asked.message


def test_no_more_of_a_body_is_read_than_is_taken_in(ask: Ask) -> None:
    body = Body(*[b" " * 1000] * 1000)
    assert isinstance(ask({"stream": body}, max_bytes=10_000).error, AnswerTooBig)
    assert body.taken == 11


def test_a_gzip_bomb_is_not_unpacked(ask: Ask) -> None:
    bomb = gzip.compress(bytes(64_000_000), 9)
    chunks = [bomb[i : i + 4096] for i in range(0, len(bomb), 4096)]
    tracemalloc.start()
    try:
        asked = ask(
            {"stream": Body(*chunks), "headers": {"Content-Encoding": "gzip"}}, max_bytes=1_000_000
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(asked.error, AnswerTooBig)
    assert peak < 20_000_000


def test_a_body_that_does_not_end_in_time_is_too_big(ask: Ask) -> None:
    asked = ask({"stream": Body(b'{"data"', hangs=True)}, request_timeout=0.02)
    assert isinstance(asked.error, AnswerTooBig)
    assert "0.02 s" in asked.message
    assert isinstance(ask(httpx.ReadTimeout("")).error, AnswerTooBig)


@pytest.mark.parametrize(("status", "expected"), [(400, Refused), (401, Unauthorized)])
def test_a_refusal_of_any_length_is_a_refusal(
    ask: Ask, status: int, expected: type[ApiError]
) -> None:
    body = Body(*[b"x" * 10_000] * 1000)
    asked = ask({"status_code": status, "stream": body}, max_bytes=1_000_000)
    assert type(asked.error) is expected
    assert body.taken < 10
    assert len(asked.message) < 1_500


def test_an_outage_with_a_long_page_is_waited_out(ask: Ask) -> None:
    page = {"status_code": 503, "content": b"x" * 100_000}
    assert ask(page, GOOD, max_bytes=1_000).answer is not None


@pytest.mark.parametrize("body", [b"", b" \n\t ", b"\xff\xfe\x00", "é".encode() * 5_000])
def test_any_error_body_makes_a_message_of_one_line(ask: Ask, body: bytes) -> None:
    message = ask({"status_code": 400, "content": body}).message
    assert "\n" not in message
    assert len(message) < 500


def test_a_question_too_long_for_a_url_is_refused_before_it_is_sent(ask: Ask) -> None:
    query = UsageQuery(0, 60, "1m", user_ids=["x" * 70_000])
    asked = ask(GOOD, query=query)
    assert isinstance(asked.error, InvalidQuery)
    assert len(asked.message) < 1_500


@pytest.mark.parametrize("key", ["", " ", "a b", "a\nb", "ключ", "a\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        Client("https://api.example", SecretStr(key))
    assert not key.strip() or key not in str(caught.value)


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    in_flight, most = 0, 0

    async def serve(_: httpx.Request) -> httpx.Response:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        in_flight -= 1
        return httpx.Response(200, **GOOD)

    async def run() -> None:
        limits = Limits(concurrency=3, requests_per_second=10_000)
        transport = httpx.MockTransport(serve)
        async with Client("https://a.example", SecretStr("k"), limits, transport=transport) as c:
            await asyncio.gather(*(get_usage(c, UsageQuery(0)) for _ in range(20)))
            assert c.requests == 20

    asyncio.run(run())
    assert most == 3


def over_a_socket(server: EmulatorServer) -> tuple[int, list[float]]:
    """How many requests one question took over a real connection, and the waits in between."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    async def run() -> int:
        async with Client(server.base_url, SecretStr(server.api_key), sleep=note) as client:
            answer = await get_usage(client, UsageQuery(0, 3_600, "1m"))
            assert len(answer.value.buckets) == 60
            return client.requests

    return asyncio.run(run()), waits


@pytest.mark.parametrize(
    "kind", ["rate_limited", "server_error", "refused", "reset", "truncated", "not_json"]
)
def test_every_fault_of_the_wire_is_survived(kind: FaultKind) -> None:
    with EmulatorServer(World(), Faults(rates={kind: 1.0}, max_consecutive=2)) as server:
        requests, waits = over_a_socket(server)
    assert requests == 3
    assert len(waits) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_this_machine_is_asked_directly_whatever_proxy_is_set(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with EmulatorServer(World(), host=host) as server:
        assert over_a_socket(server) == (1, [])


def test_a_client_shows_its_address_and_nothing_else() -> None:
    client = Client("https://user:password@api.example/v", SecretStr("k"))
    assert repr(client) == "Client('https://api.example/v')"
