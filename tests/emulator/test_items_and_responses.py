"""Endpoints 3 to 5 over HTTP: items read and posted, and responses walked both ways."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pipeline.emulator import EmulatorServer, ManualClock, World

Serve = Callable[..., EmulatorServer]
Client = Callable[[EmulatorServer], httpx.Client]
Walk = Callable[..., list[str]]
Many = Callable[[int], World]
HELLO = {"type": "message", "role": "user", "content": "hello"}


@pytest.mark.parametrize("limit", [1, 9, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_items_come_in_the_order_they_were_added(
    serve: Serve, client: Client, limit: int, order: str, walk: Walk, many: Many
) -> None:
    world = many(1)
    name = world.conversations_of(("key_web", None))[0].id
    added = [item for at in range(7) for item in world.add_items(name, [HELLO] * 4, at)]
    http = client(serve(world))
    ids = walk(http, f"/conversations/{name}/items", limit=limit, order=order, include="x")
    assert ids == (added if order == "asc" else added[::-1])


def test_items_of_types_that_no_client_knows_are_passed_on(
    serve: Serve, client: Client, many: Many
) -> None:
    world = many(1)
    name = world.conversations_of(("key_web", None))[0].id
    body = {"type": "hologram", "frames": [1, {"x": None}], "é": True}
    world.add_items(name, [body], 1)
    (row,) = client(serve(world)).get(f"/conversations/{name}/items").json()["data"]
    assert {key: value for key, value in row.items() if key in body} == body
    assert set(row) - set(body) == {"id", "response_id"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"items": [HELLO]}, 200),
        ({"items": [HELLO] * 20, "include": ["x"]}, 200),
        ({"items": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}, 200),
        ({"items": [{"type": "reasoning", "summary": []}]}, 200),
        ({"items": [HELLO] * 21}, 400),
        ({"items": []}, 400),
        ({"items": HELLO}, 400),
        ({}, 400),
        ([HELLO], 400),
        ({"items": [{"type": "message", "role": "user"}]}, 400),
        ({"items": [{"role": 1, "content": "x"}]}, 400),
        ({"items": [{"type": 5}]}, 400),
        ({"items": ["hello"]}, 400),
    ],
)
def test_one_to_twenty_items_may_be_posted(
    serve: Serve, client: Client, body: Any, status: int, many: Many
) -> None:
    world = many(1)
    name = world.conversations_of(("key_web", None))[0].id
    answer = client(serve(world)).post(f"/conversations/{name}/items", json=body)
    assert answer.status_code == status
    conversation = world.conversation(name)
    assert conversation is not None
    there = [item.id for item in conversation.items]
    assert len(there) == (len(body["items"]) if status == 200 else 0)
    if status == 200:
        assert [row["id"] for row in answer.json()["data"]] == there
        assert answer.json()["last_id"] == there[-1]


def test_posting_twice_adds_twice_and_counts_at_the_clocks_now(
    serve: Serve, client: Client, many: Many
) -> None:
    world = many(1)
    name = world.conversations_of(("key_web", None))[0].id
    http = client(serve(world))
    for _ in range(2):
        http.post(f"/conversations/{name}/items", json={"items": [HELLO] * 3})
    (bucket,) = world.usage(10_000, 10_001, "1m")
    (row,) = bucket["results"]
    assert (row["num_items_added"], row["num_operations"]) == (6, 2)


def test_what_is_not_yours_is_not_found(serve: Serve, client: Client) -> None:
    world = World()
    world.create_conversation(0, "u", "key_web", conversation_id="theirs")
    world.create_conversation(0, None, "key_mobile", conversation_id="elsewhere")
    world.create_conversation(0, None, "key_web", conversation_id="deleted")
    world.delete_conversation("deleted", 1)
    http = client(serve(world))
    for name in ("theirs", "elsewhere", "unknown"):
        assert http.get(f"/conversations/{name}/items").status_code == 404
    for name in ("theirs", "elsewhere", "unknown", "deleted"):
        answer = http.post(f"/conversations/{name}/items", json={"items": [HELLO]})
        assert answer.status_code == 404


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_responses_come_by_creation_and_can_be_walked_both_ways(
    serve: Serve, client: Client, limit: int, order: str, walk: Walk
) -> None:
    world = World(clock=ManualClock(100))
    made = [world.add_response(None, at % 9, owner=("key_web", None)) for at in range(20)]
    there = [response.id for response in world.responses_of(("key_web", None))]
    assert sorted(there) == sorted(made)
    expected = there if order == "asc" else there[::-1]
    http = client(serve(world))
    assert walk(http, "/responses", limit=limit, order=order) == expected

    backwards: list[str] = [expected[-1]]
    while True:
        params: dict[str, Any] = {"before": backwards[0], "limit": limit, "order": order}
        body = http.get("/responses", params=params).json()
        backwards = [*(row["id"] for row in body["data"]), *backwards]
        assert (body["first_id"], body["last_id"]) == (
            (body["data"][0]["id"], body["data"][-1]["id"]) if body["data"] else (None, None)
        )
        if not body["has_more"]:
            break
    assert backwards == expected


def test_after_and_before_together_give_what_lies_between(serve: Serve, client: Client) -> None:
    world = World(clock=ManualClock(100))
    ids = [world.add_response(None, at, owner=("key_web", None)) for at in range(6)]
    http = client(serve(world))
    params = {"after": ids[1], "before": ids[5], "order": "asc"}
    data = http.get("/responses", params=params).json()["data"]
    assert [row["id"] for row in data] == ids[2:5]


def test_a_response_changes_until_it_has_finished(serve: Serve, client: Client) -> None:
    clock = ManualClock(15)
    world = World(clock=clock)
    name = world.create_conversation(0, None, "key_web")
    assistant = {"type": "message", "role": "assistant", "status": "completed", "content": []}
    world.add_response(name, 10, [HELLO, assistant], finished_at=20, status="completed")
    http = client(serve(world))
    seen: list[tuple[str, float | None, int]] = []
    for clock.now in (9.9, 15, 20):
        for row in http.get("/responses").json()["data"]:
            seen.append((row["status"], row["completed_at"], len(row["output"])))
    assert seen == [("in_progress", None, 0), ("completed", 20, 1)]
