"""One listing read over HTTP: what is new, what is waited for, and what a removed row costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.api import Client, Limits, Response
from pipeline.conversations.cursors import ListingState, TailState
from pipeline.conversations.fetch import Expected, Found, Listing, read_listing

Row = dict[str, Any]
UNREAD = ListingState("key", None)


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
    """The status for a cursor that is not in the list; with 200, the list's beginning comes."""
    meddle: Callable[[str], None] = lambda _: None
    """Called with the path of each request, before it is answered."""
    asked: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One page, as the API would answer it at this moment."""
        path, query = request.url.path, request.url.params
        after = query.get("after")
        behind = "newest" if query.get("limit") == "1" else after
        self.asked.append((path.rsplit("/", 1)[1], behind))
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
        if after is not None and not places and self.refusal != 200:
            return httpx.Response(self.refusal, json={"error": "unknown cursor"})
        rows, limit = rows[places[0] + 1 :] if places else rows, int(query["limit"])
        page = {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit}
        return httpx.Response(200, json=page)

    def read(
        self,
        known: ListingState = UNREAD,
        tails: TailState | Mapping[str, TailState] = MappingProxyType({}),
        expected: int = 0,
        given_up: Callable[[Response], bool] = lambda _: False,
    ) -> Found:
        """A reading of the key owner's listing; `tails` are by conversation, or the only one."""
        of = {tails.conversation_id: tails} if isinstance(tails, TailState) else tails

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
                    lambda name: of.get(name, TailState(name)),
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


def talk(*items: str) -> Server:
    """A conversation with these items and a response for each, none of them in the way."""
    return Server(
        [response(f"r-{name}") for name in items],
        [{"id": "c", "created_at": 0}],
        {"c": [{"id": name, "response_id": f"r-{name}"} for name in items]},
    )


def read_items(found: Found) -> list[str]:
    """The ids of the items that were read, all of one conversation."""
    assert {conversation for conversation, _ in found.items} <= {"c"}
    return [name for _, name in found.items]


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        (UNREAD, [None, "r1", "newest"]),
        (ListingState("key", None, (), "r0"), ["r0", "r1", "newest", None]),
    ],
    ids=["read whole", "read from a cursor on"],
)
def test_responses_are_read_from_the_beginning_once_though_items_name_one_that_is_not_listed(
    known: ListingState, asked: list[str | None]
) -> None:
    server = talk()
    server.responses = [response("r0"), response("r1")]
    server.items["c"] = [{"id": "i", "response_id": "not stored"}]
    found = server.read(known)
    assert found.has_unlisted
    assert [after for what, after in server.asked if what == "responses"] == asked


@pytest.mark.parametrize("refusal", [200, 400, 404, 410, 422])
def test_items_behind_one_that_was_removed_are_read_and_the_tail_counts_what_is_there(
    refusal: int,
) -> None:
    server = talk("m1", "m3", "m4")
    server.refusal = refusal
    found = server.read(ListingState("key", None, ("c",), "r-m1"), TailState("c", "m2", 2))
    assert read_items(found) == ["m1", "m3", "m4"]
    assert found.gaps == []
    tail = found.tails["c"]
    assert (tail.last_item_id, tail.unreadable) == ("m4", False)
    if refusal != 200:  # else nothing tells that this was the beginning
        assert tail.items == 3


@pytest.mark.parametrize("refusal", [200, 400, 404, 410, 422])
def test_responses_behind_one_that_was_removed_are_read_and_the_cursor_is_one_that_is_there(
    refusal: int,
) -> None:
    server = Server([response("r1"), response("r3", "queued"), response("r4")])
    server.refusal = refusal
    found = server.read(ListingState("key", None, (), "r2"))
    assert list(found.responses) == ["r1", "r3", "r4"]
    assert (found.response_cursor, found.waiting) == ("r1", ["r3"])


def test_where_all_responses_were_removed_there_is_no_cursor() -> None:
    assert Server().read(ListingState("key", None, (), "r2")).response_cursor is None


def test_a_response_that_goes_back_to_running_before_a_removed_cursor_is_waited_for() -> None:
    server = Server([response("r1", "in_progress"), response("r3")])
    found = server.read(ListingState("key", None, (), "r2"))
    assert (found.response_cursor, found.waiting) == (None, ["r1"])


def test_without_tails_all_items_are_read_again_whatever_is_known() -> None:
    found = talk("m1", "m2").read(ListingState("key", None, ("c",), "r-m1"))
    assert read_items(found) == ["m1", "m2"]
    assert found.tails["c"] == TailState("c", "m2", 2)


def test_items_read_again_are_not_taken_for_the_new_ones_that_usage_counts() -> None:
    server = talk("m1", "m2", "m3")
    server.conversations = [{"id": name, "created_at": 0} for name in ("d", "c")]
    server.items["d"] = [{"id": "x"}, {"id": "y"}]
    # `c` is the newer one; of its three items two were known, and of those of `d` one.
    tails = {"c": TailState("c", "gone", 2), "d": TailState("d", "x", 1)}
    found = server.read(ListingState("key", None, ("c", "d"), "r-m3"), tails, expected=2)
    assert ("d", "y") in found.items


def test_of_a_conversation_that_goes_in_mid_walk_what_was_read_is_kept_and_the_rest_is_a_gap() -> (
    None
):
    server = talk(*(f"m{number}" for number in range(250)))

    def meddle(path: str) -> None:
        if server.asked[-1] == ("items", "m99"):
            del server.items["c"]

    server.meddle = meddle
    found = server.read()
    assert read_items(found) == [f"m{number}" for number in range(100)]
    assert found.gaps == ["conversation c: its items are gone (404)"]
    assert found.tails["c"].unreadable
    assert len(server.asked) < 20
