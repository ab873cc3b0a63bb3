"""A POST is sent once, and no more unless it provably was not taken in."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.api import (
    Client,
    InvalidQuery,
    OutcomeUnknown,
    QuotaExhausted,
    Refused,
    Unauthorized,
    Unavailable,
    create_items,
)
from pipeline.api.fields import ListPage
from pipeline.emulator import EmulatorServer, FaultKind, Faults, ManualClock, World
from tests.api.exchange import Reply, exchange

SAID = "what nobody else may read"
ITEM = {"type": "message", "role": "user", "content": SAID}
DONE = {"content": b'{"data":[{"id":"i","type":"message"}],"has_more":false}'}


def post(*replies: Reply, items: Sequence[Any] = (ITEM,), **limits: Any) -> tuple[Any, int]:
    """What came of adding items, and how often they were sent."""
    answer, sent = exchange(lambda client: create_items(client, "c", items), *replies, **limits)
    return answer, len(sent)


def test_items_and_include_are_the_body() -> None:
    answer, (request,) = exchange(
        lambda client: create_items(client, "c/d", [ITEM], include=["a"], on_behalf_of="ключ"), DONE
    )
    assert isinstance(answer.value, ListPage)
    assert (request.method, request.url.raw_path) == (
        "POST",
        b"/gate/api/v1/llm/conversations/c%2Fd/items",
    )
    assert json.loads(request.content) == {"items": [ITEM], "include": ["a"]}
    assert request.headers["Content-Type"] == "application/json"
    assert dict(request.headers.raw)[b"X-On-Behalf-Of"] == "ключ".encode()


@pytest.mark.parametrize(
    "reply",
    [
        *({"status_code": status, "text": SAID} for status in (500, 502, 503, 504, 599)),
        httpx.ReadError(SAID),
        httpx.WriteError(SAID),
        httpx.ReadTimeout(SAID),
        httpx.WriteTimeout(SAID),
        httpx.RemoteProtocolError(SAID),
        {"content": b""},
        {"text": f"<html>{SAID}"},
        {"content": DONE["content"][:20]},
        {"json": {"said": SAID}},
        {"status_code": 202, "content": b""},
        {"status_code": 204},
        {"content": b" " * 2_000 + DONE["content"]},
        {"json": {"error": SAID}},
        {"content": SAID.encode(), "headers": {"Content-Encoding": "br"}},
        *({"status_code": status, "text": SAID} for status in (501, 505)),
    ],
)
def test_a_post_whose_fate_is_open_is_not_repeated_and_says_so(reply: Reply) -> None:
    error, sent = post(reply, DONE, max_bytes=1_000)
    assert isinstance(error, OutcomeUnknown)
    assert sent == 1
    assert "POST https://api.example/gate/api/v1/llm/conversations/c/items" in str(error)
    assert SAID not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        *(({"status_code": s, "text": SAID}, Unauthorized) for s in (401, 403)),
        *(
            ({"status_code": s, "text": SAID}, Refused)
            for s in (301, 307, 400, 404, 408, 409, 413, 421, 422, 425)
        ),
    ],
)
def test_a_post_that_is_refused_was_not_done(reply: Reply, expected: type[Exception]) -> None:
    error, sent = post(reply, DONE)
    assert (type(error), sent) == (expected, 1)
    assert SAID not in str(error)


@pytest.mark.parametrize(
    "reply",
    [
        {"status_code": 429},
        {"status_code": 429, "headers": {"Retry-After": "3"}},
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.PoolTimeout("full"),
    ],
)
def test_a_post_that_was_not_taken_in_is_sent_again(reply: Reply) -> None:
    answer, sent = post(reply, reply, DONE)
    assert [item.id for item in answer.value.rows] == ["i"]
    assert sent == 3


@pytest.mark.parametrize(
    ("reply", "expected"),
    [({"status_code": 429}, QuotaExhausted), (httpx.ConnectError("refused"), Unavailable)],
)
def test_a_post_that_is_never_taken_in_ends_within_its_tries(
    reply: Reply, expected: type[Exception]
) -> None:
    error, sent = post(reply, attempts=4)
    assert (type(error), sent) == (expected, 4)


def test_a_doubt_after_refused_tries_is_a_doubt() -> None:
    error, sent = post({"status_code": 429}, httpx.ReadError("reset"), DONE)
    assert (type(error), sent) == (OutcomeUnknown, 2)


@pytest.mark.parametrize("status", [200, 201])
def test_a_post_that_is_done_brings_its_items(status: int) -> None:
    answer, sent = post({"status_code": status, **DONE})
    assert ([item.id for item in answer.value.rows], sent) == (["i"], 1)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [ITEM] * 21,
        [SAID],
        SAID,
        [{"content": float("nan")}],
        [{"content": {SAID}}],
        [{"content": f"{SAID}\ud800"}],
    ],
)
def test_what_cannot_be_added_is_refused_before_it_is_sent_and_not_told(items: Any) -> None:
    error, sent = post(DONE, items=items)
    assert (type(error), sent) == (InvalidQuery, 0)
    assert str(error).startswith("items is ")
    assert SAID not in str(error)


@pytest.mark.parametrize(
    ("kind", "added"), [("reset", 1), ("truncated", 1), ("server_error", 0), ("refused", 0)]
)
def test_over_a_socket_nothing_is_added_twice(kind: FaultKind, added: int) -> None:
    world = World(clock=ManualClock(10_000))
    name = world.create_conversation(1, None, world.keys[0])

    async def run(server: EmulatorServer) -> None:
        async with Client(server.base_url, SecretStr(server.api_key)) as client:
            with pytest.raises(OutcomeUnknown):
                await create_items(client, name, [ITEM])
            assert client.requests == 1

    with EmulatorServer(world, Faults(rates={kind: 1.0}, max_consecutive=1)) as server:
        asyncio.run(run(server))
    conversation = world.conversation(name)
    assert conversation is not None
    assert len(conversation.items) == added
