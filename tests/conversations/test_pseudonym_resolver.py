"""Under pseudonyms the lake is what it would be without them, and names nobody anywhere.

What is written of users is held against a lake of the same world that has their ids as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.api import Client, Unauthorized
from pipeline.conversations import cursors
from pipeline.conversations.pseudonym_resolver import PseudonymResolver
from pipeline.conversations.sync import SyncError, SyncProgress, sync_days
from pipeline.emulator import EmulatorServer, Event, Faults, ManualClock, World
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import day_window
from tests.synced import FAST, Reader
from tests.truth import load

FIRST = date(2024, 1, 1)
DAYS = [FIRST, FIRST + timedelta(days=1)]
MIDNIGHT = day_window(FIRST).start
LATER = MIDNIGHT + 30 * 86_400 + 3_600
WEB, MOBILE = "key_web", "key_mobile"
SAID = [{"type": "message", "role": "user", "content": "q"}]
PSEUDONYMS = Pseudonyms(SecretStr("planted-pseudonym-key-0001"))
USERS = ["planted-ann", "planted-bö+b@example.org", "planted-漢字"]

Make = Callable[..., Reader]


def new_world() -> World:
    """Three users on two days, a month ago; their metadata name them."""
    world = World(clock=ManualClock(LATER))
    for number, user in enumerate([*USERS, None, USERS[0]]):
        at = MIDNIGHT + 86_400 * (number % 2) + 3_600 * number
        name = world.create_conversation(at, user, (WEB, MOBILE)[number % 2], {"who": f"{user}"})
        world.add_response(name, at + 60, SAID * (number + 1))
        world.add_items(name, SAID, at + 120)
    return world


@pytest.fixture
def world() -> World:
    """Such a world of the test's own."""
    return new_world()


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Usage of the two days as every such world has it, under pseudonyms. Tests copy it."""
    lake = Lake(tmp_path_factory.mktemp("hidden") / "lake")
    with EmulatorServer(new_world()) as server:
        Reader(server, lake, DAYS, pseudonyms=PSEUDONYMS).load()
    return lake


@pytest.fixture
def make(world: World, tmp_path: Path) -> Iterator[Make]:
    """Readers over the world, each with a lake of its own; they end with the test."""
    with ExitStack() as stack:

        def reader(
            folder: str = "lake",
            pseudonyms: Pseudonyms | None = PSEUDONYMS,
            faults: Faults | None = None,
        ) -> Reader:
            server = stack.enter_context(EmulatorServer(world, faults))
            return Reader(server, Lake(tmp_path / folder), DAYS, pseudonyms=pseudonyms)

        yield reader


def loaded(reader: Reader, hidden: Lake) -> Reader:
    """The reader with its lake as it is once usage is loaded."""
    shutil.copytree(hidden.root, reader.lake.root, symlinks=True)
    return reader


def as_text(value: object) -> str:
    """Everything in it as text, ids as they are."""
    return json.dumps(value, default=str, ensure_ascii=False)


def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it must be under pseudonyms."""
    hidden = {name: None for name in ("metadata", "extra") if name in row}
    user = {"user_id": PSEUDONYMS.of(row["user_id"])} if "user_id" in row else {}
    return {**row, **user, **hidden}


def in_any_order(rows: list[dict[str, Any]]) -> list[str]:
    # When a day was fetched is not what it says.
    return sorted(as_text({k: v for k, v in row.items() if k != "fetched_at"}) for row in rows)


def test_every_table_is_the_same_but_for_the_names_of_users(make: Make) -> None:
    extra = Faults(extra_fields={"email": "planted-ann"})
    clear, hidden = make("clear", None, extra), make("hidden", faults=extra)
    for reader in (clear, hidden):
        reader.load()
        reader.sync()
    with_users = 0
    for name in DATASETS:
        rows, expected = hidden.rows(name), [renamed(row) for row in clear.rows(name)]
        assert in_any_order(rows) == in_any_order(expected), name
        with_users += any(row.get("user_id") for row in rows)
        assert "planted" not in as_text(rows)
    assert with_users == 13
    assert any(row["metadata"] for row in clear.rows("conversations"))
    assert any(row["extra"] for row in clear.rows("raw_usage"))
    assert hidden.differences() == {
        (day, PSEUDONYMS.of(user), *rest): found
        for (day, user, *rest), found in clear.differences().items()
    }


def test_the_order_of_rows_is_the_contracts_under_pseudonyms_too(make: Make, hidden: Lake) -> None:
    reader = loaded(make(), hidden)
    for day in reader.days:
        users = [
            (row["user_id"] or "", row["api_key_id"] or "")
            for row in reader.rows("usage_1d")
            if row["start_time"].date() == day
        ]
        assert users == sorted(users)


def test_no_spool_file_has_an_id(make: Make) -> None:
    """Pages on their way into the lake are on disk for a moment: looked at while they are."""
    reader, pages = make(faults=Faults(extra_fields={"email": "planted-ann"})), 0

    def look(_: object) -> None:
        nonlocal pages
        spooled = [path.read_bytes() for path in reader.lake.root.rglob("*.arrow")]
        pages += any(b"p_" in content for content in spooled)
        assert not any(b"planted" in content for content in spooled)

    load(reader.server, reader.lake, reader.days, pseudonyms=PSEUDONYMS, on_progress=look)
    assert pages


def test_no_sight_and_no_state_of_a_sync_has_an_id(
    make: Make, hidden: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.conversations.row_buffer._PART_ROWS", 1
    )  # on disk as soon as they are seen
    reader, sights = loaded(make(), hidden), 0

    def look(_: SyncProgress) -> None:
        nonlocal sights
        seen = [path.read_bytes() for path in reader.lake.root.rglob("*.arrow")]
        sights += any(b"p_" in content for content in seen)
        assert not any(b"planted" in content for content in seen)

    for full in (False, True):
        sync_days(
            reader.connect(),
            reader.lake,
            reader.days,
            full=full,
            resolver=reader.resolver,
            on_progress=look,
            now=reader.server.world.clock,
        )
    assert sights
    state = cursors.load(reader.lake)
    users = {listing.user_id for listing in state.listings.values()}
    assert users == {None, *map(PSEUDONYMS.of, USERS)}


def test_a_later_sync_knows_the_listings_of_the_one_before(make: Make, hidden: Lake) -> None:
    reader = loaded(make(), hidden)
    assert reader.sync().listings > 0
    before = len(reader.server.requests)
    assert reader.sync().listings == 0
    assert reader.asked(before) == ["conversations"]  # of usage: who is behind the pseudonyms


def test_a_day_that_is_still_open_is_synced_too(make: Make, world: World) -> None:
    clock = world.clock
    assert isinstance(clock, ManualClock)
    clock.advance(MIDNIGHT + 86_400 + 6 * 3_600 - LATER)
    reader = make()
    reader.load()
    assert reader.sync().gaps == ()
    assert len(reader.rows("conversations")) == 5


def test_users_are_asked_for_by_the_ids_that_the_api_knows(make: Make, hidden: Lake) -> None:
    reader = loaded(make(), hidden)
    synced = reader.sync()
    assert synced.gaps == ()
    assert len(reader.rows("conversations")) == 5
    assert {why for why, _ in reader.differences().values()} == {"undated"}


def test_a_pair_that_the_api_names_no_more_is_a_gap_that_is_told(
    make: Make, hidden: Lake, world: World
) -> None:
    reader = loaded(make(), hidden)
    for event in world.events():
        if event.user_id == USERS[1]:
            world.restate(event.at, event.user_id, event.api_key_id, drop=True)
    synced = reader.sync()
    [gap] = synced.gaps
    assert gap.startswith(f"key {MOBILE}, user '{PSEUDONYMS.of(USERS[1])}' can't be asked for")
    classes = {
        row["class"]
        for row in reader.rows("reconciliation")
        if row["user_id"] == PSEUDONYMS.of(USERS[1])
    }
    assert classes == {"not derivable"}


@pytest.mark.parametrize(
    ("user", "faults"),
    [
        ("planted-hidden", Faults(forbidden=frozenset({"planted-hidden"}))),
        ("planted-in-no-header\n", Faults()),
    ],
)
def test_no_gap_names_anybody(make: Make, world: World, user: str, faults: Faults) -> None:
    world.log(Event(MIDNIGHT + 60, user, WEB, 0, 0, 1))
    reader = make()
    reader.load()
    reader.server.faults = faults
    synced = reader.sync()
    assert any("user 'p_" in gap for gap in synced.gaps)
    assert "planted" not in as_text(synced.gaps)


def test_no_failure_of_a_listing_names_anybody(make: Make, hidden: Lake, world: World) -> None:
    for one in world.all_conversations():
        world.add_items(one.id, [{"type": "call", "role": 7}], MIDNIGHT + 80_000)
    reader = loaded(make(), hidden)
    with pytest.raises(SyncError, match=r"user 'p_[0-9a-f]{32}'.*not a page of items") as failed:
        reader.sync()
    assert "planted" not in str(failed.value)


def test_no_walk_that_lies_names_anybody(
    make: Make, hidden: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.api.list_walk._MAX_PASSES", 0)
    reader = loaded(make(), hidden)
    with pytest.raises(SyncError, match=r"user 'p_[0-9a-f]{32}'.*keeps changing") as failed:
        reader.sync()
    assert "planted" not in str(failed.value)


def test_who_is_behind_pseudonyms_is_asked_in_one_request_and_not_kept(make: Make) -> None:
    reader = make()
    resolver = reader.resolver
    assert resolver is not None
    assert resolver.real_ids(reader.days) == {PSEUDONYMS.of(user): user for user in USERS}
    [(_, target, _)] = reader.server.requests
    assert "bucket_width=1d" in target
    assert not reader.lake.root.exists()
    assert "planted" not in repr(resolver)


def test_who_is_behind_pseudonyms_is_found_where_a_day_is_too_large_for_an_answer(
    make: Make,
) -> None:
    reader = make()
    reader.limits = replace(FAST, max_bytes=400)
    assert reader.resolver is not None
    found = reader.resolver.real_ids(reader.days)
    assert found == {PSEUDONYMS.of(user): user for user in USERS}
    asked = [target for _, target, _ in reader.server.requests]
    assert any("bucket_width=1h" in target for target in asked)


def test_a_sync_that_cannot_ask_who_they_are_says_why_and_writes_nothing(
    make: Make, hidden: Lake
) -> None:
    reader = loaded(make(), hidden)
    before = sorted(reader.lake.root.rglob("*.parquet"))
    refused = PseudonymResolver(
        PSEUDONYMS, lambda: Client(reader.server.base_url, SecretStr("not-it"))
    )
    with pytest.raises(Unauthorized, match="401"):
        sync_days(reader.connect(), reader.lake, reader.days, resolver=refused)
    assert sorted(reader.lake.root.rglob("*.parquet")) == before


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, PSEUDONYMS),
        (PSEUDONYMS, None),
        (PSEUDONYMS, Pseudonyms(SecretStr("another-pseudonym-key-01"))),
    ],
)
def test_ids_of_two_kinds_do_not_get_into_one_lake(
    make: Make, before: Pseudonyms | None, now: Pseudonyms | None
) -> None:
    reader = make("lake", before)
    reader.load()
    reader.pseudonyms = now
    asked = len(reader.server.requests)
    for work in (reader.load, reader.sync):
        with pytest.raises(UserIdModeError, match="set MKA1_USAGE_HOME to another folder"):
            work()
    assert len(reader.server.requests) == asked
    reader.pseudonyms = before
    reader.load()
    reader.sync()
