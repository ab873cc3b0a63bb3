"""Conversations over HTTP: owners, filters, cursors, and the trap of an order that changes."""

from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

import httpx
import pytest

from pipeline.emulator import EmulatorServer, Faults, ManualClock, World, secret_of
from pipeline.emulator.faults import UnknownCursor

Serve = Callable[..., EmulatorServer]
Client = Callable[[EmulatorServer], httpx.Client]
Walk = Callable[..., list[str]]
Many = Callable[[int], World]
HELLO = {"type": "message", "role": "user", "content": "hello"}


@pytest.mark.parametrize("limit", [1, 7, 20, 50])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_conversations_come_page_by_page_in_update_order(
    serve: Serve, client: Client, limit: int, order: str, walk: Walk, many: Many
) -> None:
    world = many(60)
    there = [conversation.id for conversation in world.conversations_of(("key_web", None))]
    ids = walk(client(serve(world)), "/conversations", limit=limit, order=order)
    assert ids == (there if order == "asc" else there[::-1])


def test_a_cursor_stands_where_its_conversation_stands_now(
    serve: Serve, client: Client, walk: Walk, many: Many
) -> None:
    world = many(4)
    http = client(serve(world))
    first, second, third, fourth = walk(http, "/conversations")
    assert walk(http, "/conversations", after=second) == [third, fourth]
    world.touch(second)
    assert walk(http, "/conversations", after=second) == []
    assert walk(http, "/conversations", after=third) == [fourth, second]
    assert walk(http, "/conversations") == [first, third, fourth, second]


@pytest.mark.parametrize("touch_rate", [0.2, 0.5, 1.0])
def test_a_plain_walk_loses_conversations_that_are_touched_meanwhile(
    serve: Serve, client: Client, touch_rate: float, walk: Walk, many: Many
) -> None:
    lost = 0
    for seed in range(4):
        server = serve(many(300), Faults(touch_rate=touch_rate, seed=seed))
        ids = walk(client(server), "/conversations", limit=10)
        lost += 300 - len(set(ids))
    assert lost > 0


def test_walking_repeatedly_finds_what_one_walk_loses(
    serve: Serve, client: Client, walk: Walk, many: Many
) -> None:
    http = client(serve(many(100), Faults(touch_rate=0.2)))
    found: set[str] = set()
    for _ in range(60):
        found |= set(walk(http, "/conversations", limit=50))
    assert len(found) == 100


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"metadata": '{"a": "1"}'}, ["first", "second"]),
        ({"metadata": '{"a": "1", "b": "2"}'}, ["second"]),
        ({"metadata": "{}"}, ["first", "second", "third"]),
        ({"metadata": '{"a": "2"}'}, []),
        ({"search": "STRASSE"}, ["first"]),
        ({"search": "tool said"}, ["third"]),
        ({"search": "nothing like it"}, []),
        ({"search": "straße", "metadata": '{"a": "1"}'}, ["first"]),
    ],
)
def test_conversations_are_found_by_metadata_and_by_words(
    serve: Serve, client: Client, filters: dict[str, str], found: list[str], walk: Walk
) -> None:
    world = World()
    for name, metadata in [
        ("first", {"a": "1"}),
        ("second", {"a": "1", "b": "2"}),
        ("third", None),
    ]:
        world.create_conversation(0, None, "key_web", metadata, conversation_id=name)
    part = {"type": "input_text", "text": "In welcher Straße?"}
    world.add_items("first", [{"type": "message", "role": "user", "content": [part]}], 1)
    output = {"type": "function_call_output", "call_id": "c", "output": "the tool said no"}
    world.add_items("third", [output], 2)
    http = client(serve(world))
    assert sorted(walk(http, "/conversations", **filters)) == found


def test_the_deleted_stay_listed(serve: Serve, client: Client, many: Many) -> None:
    world = many(2)
    first = world.conversations_of(("key_web", None))[0].id
    world.delete_conversation(first, 9_000)
    data = client(serve(world)).get("/conversations").json()["data"]
    assert [(row["id"] == first, row["deleted_at"]) for row in data] == [
        (False, None),
        (True, 9_000),
    ]
    assert client(serve(world)).get(f"/conversations/{first}/items").status_code == 200


@pytest.mark.parametrize(
    ("gone", "listed", "items", "cursor"),
    [(None, 3, 200, 200), ("items", 3, 404, 200), ("listing", 2, 404, 400)],
)
def test_what_is_left_of_the_deleted_is_the_servers_choice(
    serve: Serve,
    client: Client,
    many: Many,
    gone: Literal["items", "listing"] | None,
    listed: int,
    items: int,
    cursor: int,
) -> None:
    world = many(3)
    deleted = world.conversations_of(("key_web", None))[1].id
    world.delete_conversation(deleted, 9_000)
    faults = Faults(deleted_gone=gone)
    http = client(serve(world, faults))
    for order in ("asc", "desc"):
        assert len(http.get(f"/conversations?order={order}").json()["data"]) == listed
    assert http.get(f"/conversations/{deleted}/items").status_code == items
    assert http.get(f"/conversations?after={deleted}").status_code == cursor
    world.clock = ManualClock(8_999)
    assert len(http.get("/conversations").json()["data"]) == 3
    assert http.get(f"/conversations/{deleted}/items").status_code == 200


def test_a_user_may_be_forbidden_to_every_key(serve: Serve, client: Client) -> None:
    world = World()
    for user in ("seen", "unseen"):
        world.create_conversation(0, user, "key_web", conversation_id=user)
    http = client(serve(world, Faults(forbidden=frozenset({"unseen"}))))
    for user, status in (("seen", 200), ("unseen", 403)):
        headers = {"X-On-Behalf-Of": user}
        for path in ("/conversations", f"/conversations/{user}/items", "/responses"):
            assert http.get(path, headers=headers).status_code == status
        answer = http.post(f"/conversations/{user}/items", json={"items": [HELLO]}, headers=headers)
        assert answer.status_code == status


@pytest.mark.parametrize(("touches", "moved"), [(1, 1), (4, 4), (99, 10)])
def test_so_many_conversations_are_touched_each_time(
    serve: Serve, client: Client, many: Many, touches: int, moved: int
) -> None:
    world = many(10)
    owner = ("key_web", None)
    before = {row.id: len(row.updates) for row in world.conversations_of(owner)}
    http = client(serve(world, Faults(touch_rate=1.0, touches=touches)))
    assert http.get("/conversations").status_code == 200
    after = {row.id: len(row.updates) for row in world.conversations_of(owner)}
    assert sorted(after[name] - before[name] for name in before) == [0] * (10 - moved) + [1] * moved


def test_the_cursors_own_conversation_is_touched_about_every_second_time(
    serve: Serve, client: Client, many: Many
) -> None:
    world = many(10)
    cursor = world.conversations_of(("key_web", None))[0]
    http = client(serve(world, Faults(touch_rate=1.0, touches=2)))
    for _ in range(60):
        assert http.get(f"/conversations?after={cursor.id}").status_code == 200
    # Half of the times as the cursor, and sometimes as any other.
    assert 30 <= len(cursor.updates) - 1 <= 50


USERS = [None, "plain", "käthe", "ユーザー", "a b", "a%20b", "50%+x", "a/b", " spaced "]


def headers_for(user: str | None) -> list[list[tuple[bytes, bytes]]]:
    """The ways to name a user in a header: as UTF-8, and percent-encoded."""
    if user is None:
        return [[]]
    ways = {quote(user, safe="").encode()} if user != "a b" else set[bytes]()
    # "a b" can't be encoded in a world where "a%20b" is a user as well, and blanks at the ends of
    # a header's value are not part of it.
    ways |= {user.encode()} if user.strip() == user else set[bytes]()
    return [[(b"x-on-behalf-of", way)] for way in sorted(ways)]


def test_a_listing_is_of_one_key_and_one_user(serve: Serve, walk: Walk) -> None:
    world = World()
    for key in world.keys:
        for user in USERS:
            world.create_conversation(0, user, key, conversation_id=f"{key} of {user}")
            world.add_response(f"{key} of {user}", 1)
    server = serve(world)
    for key in world.keys:
        for user in USERS:
            for header in headers_for(user):
                headers = [(b"authorization", b"Bearer " + secret_of(key).encode()), *header]
                with httpx.Client(
                    base_url=f"{server.base_url}/api/v1/llm", headers=headers, verify=False
                ) as http:
                    assert walk(http, "/conversations") == [f"{key} of {user}"]
                    responses = http.get("/responses").json()["data"]
                    assert [row["user"] for row in responses] == [user]


@pytest.mark.parametrize(
    "conversation_id", ["plain", "a b", "a/b/items", "ü漢", "q?x=1&y#z", "50%2F", "'\"", "a+b"]
)
def test_any_id_can_be_in_an_address(
    serve: Serve, client: Client, conversation_id: str, walk: Walk
) -> None:
    world = World()
    world.create_conversation(0, None, "key_web", conversation_id=conversation_id)
    (item,) = world.add_items(conversation_id, [HELLO], 1)
    http = client(serve(world))
    assert walk(http, f"/conversations/{quote(conversation_id, safe='')}/items") == [item]


@pytest.mark.parametrize(
    "path",
    [
        "/conversations?limit=51",
        "/conversations?limit=0",
        "/conversations?order=newest",
        "/conversations?after=unknown",
        "/conversations?metadata=abc",
        "/conversations?metadata=[1]",
        '/conversations?metadata={"a":1}',
        "/conversations?before=x",
        "/conversations/c/items?limit=101",
        "/conversations/c/items?after=unknown",
        "/conversations/c/items?order=",
        "/responses?limit=101",
        "/responses?after=unknown",
        "/responses?before=unknown",
        "/responses?order=up",
        "/responses?metadata={}",
    ],
)
def test_listings_read_their_parameters_strictly(serve: Serve, client: Client, path: str) -> None:
    world = World()
    world.create_conversation(0, None, "key_web", conversation_id="c")
    answer = client(serve(world)).get(path)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_a_server_may_give_fewer_rows_than_asked_for(
    serve: Serve, client: Client, walk: Walk, many: Many
) -> None:
    http = client(serve(many(20), Faults(clamp_limit=6)))
    body = http.get("/conversations", params={"limit": 50}).json()
    assert (len(body["data"]), body["has_more"]) == (6, True)
    assert len(walk(http, "/conversations", limit=50)) == 20


@pytest.mark.parametrize(
    ("unknown", "status", "rows"),
    [
        *((status, status, []) for status in (400, 404, 410, 422)),
        ("beginning", 200, [0, 2]),
        ("empty", 200, []),
    ],
)
def test_a_row_that_was_removed_is_an_unknown_cursor_and_stays_counted(
    serve: Serve, client: Client, unknown: UnknownCursor, status: int, rows: list[int]
) -> None:
    world = World(clock=ManualClock(10_000))
    name = world.create_conversation(0, None, "key_web")
    items = world.add_items(name, [HELLO] * 3, 1)
    responses = [world.add_response(name, at) for at in range(3)]
    http = client(serve(world, Faults(unknown_cursor=unknown)))
    before = world.usage(0)
    world.remove_item(name, items[1])
    world.remove_response(responses[1])
    assert world.usage(0) == before
    for path, ids in ((f"/conversations/{name}/items", items), ("/responses", responses)):
        answer = http.get(path, params={"order": "asc", "after": ids[1]})
        assert answer.status_code == status
        if status == 200:
            assert [row["id"] for row in answer.json()["data"]] == [ids[place] for place in rows]
        left = http.get(path, params={"order": "asc"}).json()["data"]
        assert [row["id"] for row in left] == [ids[0], ids[2]]
    with pytest.raises(KeyError):
        world.remove_item(name, items[1])
    with pytest.raises(KeyError):
        world.remove_response(responses[1])


@pytest.mark.parametrize(
    ("shared", "seen"),
    [
        ((), {"web-ada"}),
        (("keys",), {"web-ada", "mobile-ada"}),
        (("users",), {"web-ada", "web-bob"}),
        (("keys", "users"), {"web-ada", "mobile-ada", "web-bob"}),
    ],
)
def test_listings_may_show_what_other_keys_and_users_did(
    serve: Serve, client: Client, shared: tuple[Literal["keys", "users"], ...], seen: set[str]
) -> None:
    world = World(clock=ManualClock(10_000))
    for at, (key, user) in enumerate([("web", "ada"), ("mobile", "ada"), ("web", "bob")]):
        name = world.create_conversation(at, user, f"key_{key}", conversation_id=f"{key}-{user}")
        world.add_response(name, at, [HELLO])
    http = client(serve(world, Faults(shared=frozenset(shared))))
    headers = {"X-On-Behalf-Of": "ada"}
    for path in ("/conversations", "/responses"):
        rows = http.get(path, headers=headers).json()["data"]
        assert len(rows) == len(seen)
    rows = http.get("/conversations", headers=headers).json()["data"]
    assert {row["id"] for row in rows} == seen
    for name in ("web-ada", "mobile-ada", "web-bob"):
        status = http.get(f"/conversations/{name}/items", headers=headers).status_code
        assert status == (200 if name in seen else 404)
