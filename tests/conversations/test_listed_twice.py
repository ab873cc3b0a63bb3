"""What several keys or users list is counted once, and a replaced key takes nothing along."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.api import Client
from pipeline.conversations.sync import SyncError, sync_days
from pipeline.emulator import EmulatorServer, Faults, ManualClock, World
from pipeline.lake.store import Lake
from pipeline.timeline import WIDTHS, day_window
from tests.synced import Reader

FIRST, SECOND = date(2024, 1, 1), date(2024, 1, 2)
MIDNIGHT = day_window(FIRST).start
OLD, NEW = "key_old", "key_new"
COUNTS = ("num_conversations_created", "num_items_added")

Shared = Literal["keys", "users"]
Make = Callable[..., Reader]


def talk(world: World, user: str | None, key: str, day: date = FIRST) -> str:
    """A conversation with a response and its two items."""
    at = day_window(day).start + 9 * 3_600
    name = world.create_conversation(at, user, key)
    said = [{"type": "message", "role": role, "content": "x"} for role in ("user", "assistant")]
    world.add_response(name, at + 60, said)
    return name


def world_of(*keys: str) -> World:
    """A month later; nobody has done anything."""
    return World(keys=keys, clock=ManualClock(MIDNIGHT + 30 * 86_400))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Readers of the same lake, each with a server of its own; they end with the test."""
    with ExitStack() as stack:

        def reader(world: World, days: Sequence[date], *shared: Shared) -> Reader:
            server = stack.enter_context(EmulatorServer(world, Faults(shared=frozenset(shared))))
            made = Reader(server, Lake(tmp_path / "lake"), days)
            made.load()
            return made

        yield reader


def sums(reader: Reader, table: str) -> tuple[int, ...]:
    """Conversations and items of all rows of a table."""
    rows = reader.rows(table)
    return tuple(sum(row[name] or 0 for row in rows) for name in COUNTS)


def of_key(lake: Lake, table: str, key: str) -> list[dict[str, Any]]:
    """The rows of a key, without when they were seen."""
    return [
        {name: value for name, value in row.items() if not name.endswith("seen_at")}
        for path in lake.files(table)
        for row in pq.read_table(path).to_pylist()
        if row["api_key_id"] == key
    ]


def require_counted_once(reader: Reader, world: World) -> None:
    """Each record of the world is landed once, and the observed sums are those of usage."""
    conversations = world.all_conversations()
    for table, ids in {
        "conversations": [one.id for one in conversations],
        "responses": [one.id for one in world.all_responses()],
        "items": [item.id for one in conversations for item in one.items],
    }.items():
        assert sorted(row["id"] for row in reader.rows(table)) == sorted(ids)
    for width in WIDTHS:
        assert sums(reader, f"observed_{width}") == sums(reader, f"usage_{width}")


@pytest.mark.parametrize(
    ("shared", "full"),
    [
        ((), False),
        (("keys",), True),
        (("users",), False),
        (("keys", "users"), True),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ((), True),
                (("keys",), False),
                (("users",), True),
                (("keys", "users"), False),
            )
        ),
    ],
)
def test_what_several_listings_show_is_landed_and_counted_once(
    make: Make, shared: tuple[Shared, ...], full: bool
) -> None:
    world = world_of(OLD, NEW)
    for user in ("ada", "bob", None):
        for key in (OLD, NEW):
            talk(world, user, key)
    reader = make(world, [FIRST], *shared)
    reader.sync()
    reader.sync(full=full)
    require_counted_once(reader, world)


@pytest.mark.parametrize("shared", [("users",), ("keys", "users")])
def test_what_two_users_list_is_held_against_neither(
    make: Make, shared: tuple[Shared, ...]
) -> None:
    world = world_of(OLD, NEW)
    for user in ("ada", "bob"):
        talk(world, user, OLD)
    reader = make(world, [FIRST], *shared)
    reader.sync()
    assert reader.classes() == {"not derivable"}


def test_what_is_missing_beside_what_two_users_list_is_still_told(make: Make) -> None:
    world = world_of(OLD)
    for user in ("ada", "bob"):
        talk(world, user, OLD)
    world.restate(MIDNIGHT + 9 * 3_600, "ada", OLD, items_added=9)
    reader = make(world, [FIRST], "users")
    reader.sync()
    assert {
        (user, kind)
        for (_, user, _, measure), (kind, _) in reader.differences().items()
        if measure == "num_items_added"
    } == {("ada", "unexplained"), ("bob", "unexplained")}


def test_of_two_keys_that_list_it_none_is_told_and_no_difference_is_held_against_either(
    make: Make,
) -> None:
    world = world_of(OLD, NEW)
    for key in (OLD, NEW):
        talk(world, "ada", key)
    reader = make(world, [FIRST], "keys")
    reader.sync()
    for table in ("conversations", "responses", "observed_1d"):
        assert {(row["user_id"], row["api_key_id"]) for row in reader.rows(table)} == {
            ("ada", None)
        }
    assert reader.classes() == {"not derivable"}


def test_of_two_users_that_list_it_none_is_told(make: Make) -> None:
    world = world_of(OLD)
    for user in ("ada", "bob"):
        talk(world, user, OLD)
    reader = make(world, [FIRST], "users")
    reader.sync()
    for table in ("conversations", "responses", "observed_1d"):
        assert {(row["user_id"], row["api_key_id"]) for row in reader.rows(table)} == {(None, OLD)}


def test_a_key_whose_listings_another_one_shows_as_its_own_only_is_not_disputed(
    make: Make,
) -> None:
    """The second key's user has no usage with it, so nobody asks for that listing."""
    world = world_of(OLD, NEW)
    talk(world, "ada", OLD)
    reader = make(world, [FIRST], "keys")
    reader.sync()
    assert {row["api_key_id"] for row in reader.rows("conversations")} == {OLD}
    assert reader.differences() == {}


def with_the_old_key() -> World:
    """Two users, and what they did with it."""
    world = world_of(OLD)
    for user in ("ada", "bob"):
        talk(world, user, OLD)
    return world


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The first day of every such world, synced. Tests copy it."""
    lake = Lake(tmp_path_factory.mktemp("synced") / "lake")
    with EmulatorServer(with_the_old_key()) as server:
        reader = Reader(server, lake, [FIRST])
        reader.load()
        reader.sync()
    return lake


@pytest.mark.parametrize(
    ("shared", "full", "refused"),
    [
        pytest.param(*each, marks=() if each[1] != each[2] else pytest.mark.slow)
        for each in product([(), ("keys",)], [False, True], [False, True])
    ],
)
def test_a_key_that_is_replaced_leaves_its_records_and_nothing_is_counted_twice(
    make: Make,
    synced: Lake,
    tmp_path: Path,
    shared: tuple[Shared, ...],
    full: bool,
    refused: bool,
) -> None:
    """With `keys`, the new key lists what was done with the old one; that has no secret any more,
    or one that is refused."""
    world = with_the_old_key()
    shutil.copytree(synced.root, tmp_path / "lake", symlinks=True)
    tables = ("conversations", "responses", *(f"observed_{width}" for width in WIDTHS))
    old = {table: of_key(synced, table, OLD) for table in tables}
    assert all(old.values())

    world.keys = (NEW,)
    talk(world, "ada", NEW, SECOND)
    after = make(world, [FIRST, SECOND], *shared)
    keys = after.connect()
    if refused:
        keys[OLD] = partial(Client, after.server.base_url, SecretStr("rotated"), after.limits)
    sync = partial(sync_days, keys, after.lake, after.days, now=world.clock)
    if refused and full:
        with pytest.raises(SyncError, match=f"(?s)^key {OLD}: .*401.*are kept"):
            sync(full=True)
    else:  # its listings are as they were, so that a refused key is not even used
        assert [OLD in gap for gap in sync(full=full).gaps] == ([] if refused else [True])
    require_counted_once(after, world)
    assert after.classes() <= {"match", "not derivable"}
    if not shared:
        assert {table: of_key(after.lake, table, OLD) for table in tables} == old
        assert sums(after, "observed_1d") == (3, 6)
    # Bob has no usage with the new key, so that nobody disputes what is his.
    (bobs,) = (row for row in after.rows("conversations") if row["user_id"] == "bob")
    assert bobs["api_key_id"] == OLD


def test_days_that_were_loaded_before_a_key_was_replaced_keep_what_was_observed(
    make: Make,
) -> None:
    world = world_of(OLD)
    talk(world, "ada", OLD)
    before = make(world, [FIRST])
    before.sync()
    reconciled = of_key(before.lake, "reconciliation", OLD)
    world.keys = (NEW,)
    talk(world, "ada", NEW, SECOND)
    after = make(world, [SECOND])
    after.sync()
    assert of_key(after.lake, "reconciliation", OLD) == reconciled
    assert after.differences() == {}
    assert [row["id"] for row in of_key(after.lake, "conversations", OLD)] == [
        row["id"] for row in of_key(before.lake, "conversations", OLD)
    ]
    require_counted_once(after, world)
