"""One listing read over HTTP: what is new, what is waited for, and what a removed row costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.api import Client, Limits, Response
from pipeline.lake.sync_state import TailState
from pipeline.listing import Expected, Found, Known, Listing, read_listing

Row = dict[str, Any]


def response(name: str, status: str = "completed", at: int = 0) -> Row:
    """A response as the API lists it."""
    return {"id": name, "created_at": at, "status": status, "conversation": {"id": "c"}}


@dataclass
class Server:
    """Endpoints 2, 3 and 5 over lists that a test may change, also between two requests."""

    responses: list[Row] = field(default_factory=list[Row])
    conversations: list[Row] = field(default_factory=list[Row])
    items: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    refusal: int = 400
    """The status for a cursor that is not in the list."""
    meddle: Callable[[str], None] = lambda _: None
    """Called with the path of each request, before it is answered."""
    asked: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One page, as the API would answer it at this moment."""
        path, query = request.url.path, request.url.params
        after = query.get("after")
        self.asked.append((path.rsplit("/", 1)[1], after))
        self.meddle(path)
        match path.split("/")[4:]:
            case ["responses"]:
                rows = self.responses
            case ["conversations"]:
                rows = self.conversations
            case ["conversations", name, "items"] if name in self.items:
                rows = self.items[name]
            case _:
                return httpx.Response(404, json={"error": "no such conversation"})
        if query["order"] == "desc":
            rows = rows[::-1]
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if after is not None and not places:
            return httpx.Response(self.refusal, json={"error": "unknown cursor"})
        rows, limit = rows[places[0] + 1 :] if places else rows, int(query["limit"])
        page = {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit}
        return httpx.Response(200, json=page)

    def read(
        self,
        known: Known = Known(),  # noqa: B008  # frozen, so sharing it is safe
        tail: TailState | None = None,
        expected: int = 0,
        given_up: Callable[[Response], bool] = lambda _: False,
    ) -> Found:
        """A reading of the key owner's listing; `tail` is that of every conversation."""

        async def work() -> Found:
            async with Client(
                "http://api.example",
                SecretStr("mka1-key-0123456789"),
                Limits(requests_per_second=10_000.0),
                transport=httpx.MockTransport(self.answer),
            ) as client:
                return await read_listing(
                    client,
                    Listing("key", None, None),
                    known,
                    Expected(items=expected),
                    lambda name: tail or TailState(name),
                    given_up=given_up,
                )

        return asyncio.run(work())


@pytest.mark.parametrize(
    ("statuses", "waiting", "abandoned", "cursor"),
    [
        ([], [], [], None),
        (["completed", "failed"], [], [], "r1"),
        (["completed", "queued", "failed", "in_progress"], ["r1", "r3"], [], "r0"),
        (["in_progress"], ["r0"], [], None),
        (["given up", "completed", "given up"], [], ["r0", "r2"], "r2"),
        (["given up", "in_progress", "given up"], ["r1"], ["r0", "r2"], "r0"),
    ],
)
def test_what_is_not_final_is_waited_for_until_it_is_given_up_and_either_is_named(
    statuses: list[str], waiting: list[str], abandoned: list[str], cursor: str | None
) -> None:
    rows = [response(f"r{place}", status) for place, status in enumerate(statuses)]
    found = Server(rows).read(given_up=lambda one: one.status == "given up")
    assert (found.waiting, found.abandoned) == (waiting, abandoned)
    assert found.settled == (not waiting)
    assert found.response_cursor == cursor


def test_what_is_waited_for_keeps_the_order_of_the_list_when_responses_are_read_again() -> None:
    server = Server(
        [response("r0", "in_progress"), response("r1")],
        [{"id": "c", "created_at": 0}],
        {"c": [{"id": "i", "response_id": "r2"}]},
    )

    def meddle(path: str) -> None:
        if path.endswith("items"):
            server.responses = [
                response("r0", "queued"),
                response("r1"),
                response("r2", "in_progress"),
            ]

    server.meddle = meddle
    found = server.read()
    assert found.waiting == ["r0", "r2"]
    assert list(found.responses) == ["r0", "r1", "r2"]
    assert found.response_cursor is None
