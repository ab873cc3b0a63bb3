"""Syncs: who is asked for, what is landed, what is reconciled, and what a failure leaves behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.api import Client
from pipeline.conversations.sync import SyncError, sync_days
from pipeline.emulator import EmulatorServer, Event, Faults, ManualClock, World, trace_world
from pipeline.emulator.faults import UNKNOWN_CURSOR, UnknownCursor
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, WIDTHS, day_window
from tests.lake.served import digests
from tests.synced import Reader
from tests.truth import MEASURES, TRACE, published, reported

FIRST = date(2024, 1, 1)
MIDNIGHT = day_window(FIRST).start
LATER = MIDNIGHT + 30 * 86_400 + 3_600
WEB, MOBILE = "key_web", "key_mobile"
ITEMS, CREATED = "num_items_added", "num_conversations_created"


def said(text: str, role: str = "user") -> dict[str, object]:
    return {"type": "message", "role": role, "content": text}


Make = Callable[..., Reader]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Readers over a world, with days loaded; they end with the test."""
    with ExitStack() as stack:

        def reader(
            world: World,
            days: Iterable[int] = (0,),
            faults: Faults | None = None,
            loaded: bool = True,
        ) -> Reader:
            server = stack.enter_context(EmulatorServer(world, faults))
            made = Reader(
                server,
                Lake(tmp_path / "lake"),
                [FIRST + timedelta(days=number) for number in days],
            )
            if loaded:
                made.load()
            return made

        yield reader


def talk(
    world: World, user: str | None, key: str = WEB, *, day: int = 0, turns: int = 2, hour: int = 9
) -> str:
    """A conversation of some turns, two items each, on a day."""
    at = MIDNIGHT + 86_400 * day + 3_600 * hour
    name = world.create_conversation(at, user, key)
    for turn in range(turns):
        world.add_response(name, at + 60 * turn, [said("q"), said("a", "assistant")])
    return name


@pytest.fixture
def world() -> World:
    """A month later; nobody has done anything."""
    return World(clock=ManualClock(LATER))


@pytest.mark.slow  # 12,031 responses: the traffic of an hour, as it was
@pytest.mark.skipif(not TRACE.exists(), reason="the real trace is not beside the project")
def test_the_real_trace_is_observed_exactly_as_it_is_reported(make: Make) -> None:
    world = trace_world(TRACE, MIDNIGHT)
    reader = make(world)
    synced = reader.sync()
    assert (synced.conversations, synced.items, synced.responses) == (7373, 24062, 12031)
    there = world.all_conversations()
    assert {row["id"]: row["created_at"].timestamp() for row in reader.rows("conversations")} == {
        one.id: pytest.approx(one.created_at) for one in there
    }
    assert {(row["conversation_id"], row["id"]) for row in reader.rows("items")} == {
        (one.id, item.id) for one in there for item in one.items
    }
    assert {row["id"] for row in reader.rows("responses")} == {
        one.id for one in world.all_responses()
    }
    for width in WIDTHS:
        observed = [
            (
                int(row["start_time"].timestamp()),
                *(row[name] for name in ("user_id", "api_key_id", CREATED, ITEMS)),
            )
            for row in reader.rows(f"observed_{width}")
        ]
        expected = [row[:5] for row in reported(world, width, reader.days)]
        assert observed == expected == [row[:5] for row in published(reader.lake, width)]
        found = {
            (int(row["start_time"].timestamp()), *(row[name] for name in GROUP)): tuple(
                row[name] for name in COUNTED
            )
            for row in reader.rows(f"tokens_{width}")
        }
        assert found == tokens_of(world, lambda at: at // SECONDS[width] * SECONDS[width])  # noqa: B023  # called at once
    assert len({model for _, _, _, model in found}) >= 3
    catalog = build_catalog(reader.lake, reader.lake.root.with_name("usage.duckdb"))
    for tz in ("America/St_Johns", "Asia/Kathmandu", "Europe/Berlin"):
        with duckdb.connect(str(catalog), read_only=True) as con:
            rows = con.execute(
                f"SELECT epoch(start_time)::BIGINT, {', '.join((*GROUP, *COUNTED))} "
                "FROM tokens_by('1h', tz := $tz)",
                {"tz": tz},
            ).fetchall()
        hours = tokens_of(world, lambda at: hour_of(at, ZoneInfo(tz)))  # noqa: B023  # called at once
        assert {row[:4]: row[4:] for row in rows} == hours
    assert reader.classes() == {"match", "not derivable"}
    assert reader.differences() == {}
    before = len(reader.server.requests)
    again = reader.sync()
    assert (again.requests, again.listings) == (0, 0)
    assert len(reader.server.requests) == before


GROUP = ("user_id", "api_key_id", "model")
COUNTED = ("num_responses", "input_tokens", "output_tokens", "total_tokens")


def tokens_of(
    world: World, start_of: Callable[[int], int]
) -> dict[tuple[object, ...], tuple[int, ...]]:
    """What the responses of a world come to by bucket, user, key and model."""
    sums: dict[tuple[object, ...], list[int]] = {}
    for one in world.all_responses():
        group = (start_of(int(one.created_at)), one.owner[1], one.owner[0], one.model)
        used = (1, one.tokens.input, one.tokens.output, one.tokens.input + one.tokens.output)
        row = sums.setdefault(group, [0] * len(used))
        for place, number in enumerate(used):
            row[place] += number
    return {group: tuple(row) for group, row in sums.items()}


def hour_of(at: int, zone: ZoneInfo) -> int:
    """When the hour began that a clock of the zone shows."""
    return int(datetime.fromtimestamp(at, zone).replace(minute=0, second=0).timestamp())


def test_only_those_with_usage_and_the_keys_owners_are_asked_for(world: World, make: Make) -> None:
    talk(world, "active")
    for number in range(200):
        talk(world, f"quiet{number}", day=-1)
    reader = make(world)
    before = len(reader.server.requests)
    synced = reader.sync()
    assert synced.listings == 1 + len(reader.server.api_keys)
    # Conversations and responses of each, the items of the active one's conversation.
    assert Counter(reader.asked(before)) == {"conversations": 4, "responses": 4, "items": 1}
    assert reader.classes() == {"match", "not derivable"}


def test_user_ids_of_any_unicode_are_asked_for_as_they_are(world: World, make: Make) -> None:
    users = ["käthe 漢字 🙂", 'o"brien, "pat"', "a%2Fb c+d&e=f", "\u202eتجربة"]
    for user in users:
        talk(world, user)
    reader = make(world)
    reader.sync()
    assert sorted(row["user_id"] for row in reader.rows("conversations")) == sorted(users)
    assert reader.differences() == {}


def test_a_user_id_that_no_header_holds_is_a_gap_that_is_told(world: World, make: Make) -> None:
    talk(world, "a\nb")
    talk(world, "fine")
    reader = make(world)
    synced = reader.sync()
    assert ["can't be asked for" in gap for gap in synced.gaps] == [True]
    classes = {(row["user_id"], row["class"]) for row in reader.rows("reconciliation")}
    assert ("a\nb", "not derivable") in classes
    assert ("a\nb", "match") not in classes


def test_usage_of_keys_without_a_secret_is_a_gap_and_not_derivable(
    world: World, make: Make
) -> None:
    talk(world, "u", "key_unknown")
    reader = make(world)
    synced = reader.sync()
    assert "key key_unknown (1 pair of user and key)" in synced.gaps[0]
    assert reader.classes() == {"not derivable"}


def test_a_later_sync_costs_requests_by_what_was_touched_and_not_by_the_history(
    world: World, make: Make
) -> None:
    clock = world.clock
    assert isinstance(clock, ManualClock)
    names = [talk(world, "u", turns=1) for _ in range(150)]
    reader = make(world)
    reader.sync()
    reader.days = [FIRST + timedelta(days=30)]
    for touched in (0, 1, 60):
        clock.advance(3_600)
        for name in names[:touched]:
            world.add_response(name, None, [said("q"), said("a")])
        world.log(Event(clock(), "u", WEB, 0, 0, 1))
        clock.advance(3_600)
        reader.load()
        before = len(reader.server.requests)
        synced = reader.sync()
        asked = Counter(reader.asked(before))
        assert asked["conversations"] <= 1 + 2 * (touched // 50)
        # Where there is none behind the cursor, it is made sure that the cursor is still known.
        assert asked["responses"] <= 2 + touched // 100
        assert asked["items"] == touched
        assert synced.items == 2 * touched
        assert reader.differences() == {}


def test_the_newest_conversation_touched_again_is_found_though_the_list_does_not_show_it(
    world: World, make: Make
) -> None:
    clock = world.clock
    assert isinstance(clock, ManualClock)
    names = [talk(world, "u", hour=hour) for hour in range(5)]
    reader = make(world)
    reader.sync()
    # Without a response, and with the order of the list as it was: usage alone tells of it.
    world.add_items(names[-1], [said("one more")], MIDNIGHT + 80_000)
    reader.load()
    before = len(reader.server.requests)
    assert reader.sync().items == 1
    assert reader.asked(before).count("items") == 1


def test_churn_between_any_two_pages_loses_no_conversation_and_no_item(
    world: World, make: Make
) -> None:
    names = {talk(world, "u", turns=1) for _ in range(230)}
    reader = make(world, faults=Faults(touch_rate=0.5, touches=2))
    reader.sync()
    assert {row["id"] for row in reader.rows("conversations")} == names
    assert len(reader.rows("items")) == 460
    assert reader.differences() == {}


@pytest.mark.parametrize(
    "faults",
    [
        Faults(rates={"rate_limited": 0.1, "server_error": 0.1, "reset": 0.1, "truncated": 0.1}),
        Faults(clamp_limit=7),
        Faults(rates={"not_json": 0.2, "refused": 0.2}, clamp_limit=3, touch_rate=0.2),
    ],
)
def test_faults_change_nothing_of_what_is_landed(make: Make, world: World, faults: Faults) -> None:
    for number in range(12):
        talk(world, f"u{number % 5}", (WEB, MOBILE)[number % 2], turns=1 + number % 3, hour=number)
    reader = make(world)
    reader.server.faults = faults
    reader.sync()
    assert {row["id"] for row in reader.rows("conversations")} == {
        one.id for one in world.all_conversations()
    }
    assert reader.differences() == {}


def test_each_planted_difference_is_named_with_its_class_and_nothing_else(
    world: World, make: Make
) -> None:
    clock = world.clock
    assert isinstance(clock, ManualClock)
    noon = MIDNIGHT + 12 * 3_600
    for number in range(6):
        talk(world, f"fine{number}", hour=number)
    # Items without a response: dated by their first sight, a month later.
    world.add_items(talk(world, "undated"), [said("x")] * 3, noon)
    # Deleted, and its items gone.
    world.delete_conversation(talk(world, "deleted"), noon)
    # One wrong count.
    talk(world, "wrong")
    world.restate(noon, "wrong", WEB, items_added=4)
    # Late: yesterday's, that usage does not count yet.
    yesterday = MIDNIGHT + 29 * 86_400 + 3_600
    late = world.create_conversation(yesterday, "late", WEB)
    world.add_response(late, yesterday, [said("q"), said("a")], visible_at=LATER + 7_200)
    reader = make(world, days=(0, 29), faults=Faults(deleted_gone="items"))
    synced = reader.sync()
    day, before_last = str(FIRST), str(FIRST + timedelta(days=29))
    assert reader.differences() == {
        (day, "undated", WEB, ITEMS): ("undated", 3),
        (day, "deleted", WEB, ITEMS): ("deleted", 4),
        (day, "wrong", WEB, ITEMS): ("unexplained", 4),
        (before_last, "late", WEB, ITEMS): ("late", -2),
    }
    assert len(synced.gaps) == 1
    assert "items are gone (404)" in synced.gaps[0]


def test_a_user_that_the_key_may_not_see_is_a_gap_and_stops_nobody_else(
    world: World, make: Make
) -> None:
    talk(world, "hidden")
    talk(world, "seen")
    reader = make(world)
    reader.server.faults = Faults(forbidden=frozenset({"hidden"}))
    synced = reader.sync()
    assert ["user 'hidden'" in gap and "403" in gap for gap in synced.gaps] == [True]
    assert {row["user_id"] for row in reader.rows("conversations")} == {"seen"}
    assert reader.classes() == {"match", "not derivable"}


def test_a_key_that_is_refused_stops_its_own_part_and_the_error_names_it(
    world: World, make: Make
) -> None:
    talk(world, "u", WEB)
    talk(world, "u", MOBILE)
    reader = make(world)
    keys = reader.connect()
    keys[MOBILE] = lambda: Client(reader.server.base_url, SecretStr("not-it"), reader.limits)
    with pytest.raises(SyncError, match=f"(?s)^key {MOBILE}: .*401.*are kept") as failed:
        sync_days(keys, reader.lake, reader.days, now=world.clock)
    assert "not-it" not in str(failed.value)
    assert [row["api_key_id"] for row in reader.rows("conversations")] == [WEB]
    assert {
        (row["api_key_id"], row["class"])
        for row in reader.rows("reconciliation")
        if row["measure"] != "num_operations"
    } == {(WEB, "match"), (MOBILE, "not derivable")}
    assert reader.sync().listings == 2  # the refused key's owner and user
    assert reader.differences() == {}


def test_a_spent_quota_keeps_what_was_read_and_the_next_sync_brings_the_rest(
    world: World, make: Make
) -> None:
    for number in range(10):
        talk(world, f"u{number}")
    reader = make(world)
    reader.limits = type(reader.limits)(
        concurrency=1, requests_per_second=10_000, retry_seconds=0, longest_wait=0.001
    )
    reader.server.faults = Faults(quota=17)
    with pytest.raises(SyncError, match="quota"):
        reader.sync()
    kept = len(reader.rows("conversations"))
    assert 0 < kept < 10
    reader.server.faults = Faults()
    before = len(reader.server.requests)
    reader.sync()
    assert len(reader.rows("conversations")) == 10
    assert reader.asked(before).count("items") == 10 - kept
    assert reader.differences() == {}


def test_a_body_of_another_shape_fails_its_listing_and_lands_nothing_of_it(
    world: World, make: Make
) -> None:
    world.add_items(talk(world, "odd"), [{"type": "call", "role": 7}], MIDNIGHT + 40_000)
    talk(world, "fine")
    reader = make(world)
    with pytest.raises(SyncError, match=r"user 'odd'.*not a page of items"):
        reader.sync()
    assert {row["user_id"] for row in reader.rows("conversations")} == {"fine"}


def test_conversations_that_disappear_are_kept_with_the_time_they_were_last_seen(
    world: World, make: Make
) -> None:
    clock = world.clock
    assert isinstance(clock, ManualClock)
    gone, stays = talk(world, "u", hour=1), talk(world, "u", hour=2)
    reader = make(world)
    reader.sync()
    world.delete_conversation(gone, LATER)
    reader.server.faults = Faults(deleted_gone="listing")
    clock.advance(3_600)
    reader.sync(full=True)
    seen = {row["id"]: row["last_seen_at"].timestamp() for row in reader.rows("conversations")}
    assert seen == {gone: LATER, stays: LATER + 3_600}
    assert reader.differences() == {}


@pytest.mark.parametrize("full", [False, True])
def test_what_was_added_to_a_conversation_before_it_disappeared_is_deleted_not_unexplained(
    world: World, make: Make, full: bool
) -> None:
    gone = talk(world, "u", hour=1)
    for hour in range(2, 5):
        talk(world, "u", hour=hour)
    reader = make(world)
    reader.sync()
    world.add_response(gone, MIDNIGHT + 70_000, [said("q"), said("a")])
    world.delete_conversation(gone, MIDNIGHT + 80_000)
    reader.server.faults = Faults(deleted_gone="listing")
    reader.load()
    reader.sync(full=full)
    assert reader.differences() == {(str(FIRST), "u", WEB, ITEMS): ("deleted", 2)}


def test_a_day_whose_usage_ends_in_the_middle_is_observed_that_far(
    world: World, make: Make
) -> None:
    clock = world.clock
    assert isinstance(clock, ManualClock)
    talk(world, "u", hour=9)
    talk(world, "u", hour=15)
    talk(world, "u", day=1)
    clock.advance(MIDNIGHT + 12 * 3_600 - LATER)
    reader = make(world)
    clock.advance(LATER - clock())
    reader.days = [FIRST + timedelta(days=1)]
    reader.load()
    reader.days = [FIRST, *reader.days]
    reader.sync()
    assert reader.differences() == {}
    assert reader.classes() == {"match", "not derivable"}


def test_a_soft_deleted_conversation_is_kept_with_the_time_of_its_deletion(
    world: World, make: Make
) -> None:
    name = talk(world, "u")
    world.delete_conversation(name, MIDNIGHT + 50_000)
    reader = make(world)
    reader.sync()
    (row,) = reader.rows("conversations")
    assert row["deleted_at"].timestamp() == MIDNIGHT + 50_000
    assert len(reader.rows("items")) == 4
    assert reader.differences() == {}


def test_a_response_that_was_not_final_is_read_again_until_it_is(world: World, make: Make) -> None:
    clock = world.clock
    assert isinstance(clock, ManualClock)
    start = day_window(FIRST + timedelta(days=30)).start
    name = world.create_conversation(start - 600, "u", WEB)
    world.add_response(name, start - 500, [said("q")], finished_at=LATER + 60)
    reader = make(world, days=(29,))
    reader.sync()
    assert [row["status"] for row in reader.rows("responses")] == ["in_progress"]
    clock.advance(600)
    reader.sync()  # though usage is what it was
    assert [row["status"] for row in reader.rows("responses")] == ["completed"]
    assert reader.sync().requests == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unknown", "full"),
    # A full sync asks with no cursor of an earlier one.
    [*((unknown, False) for unknown in UNKNOWN_CURSOR), ("empty", True)],
)
def test_what_follows_a_removed_item_or_response_is_read_and_what_was_removed_is_kept(
    world: World, make: Make, unknown: UnknownCursor, full: bool
) -> None:
    name = talk(world, "u")
    reader = make(world, faults=Faults(unknown_cursor=unknown))
    reader.sync()
    before = {table: len(reader.rows(table)) for table in ("items", "responses")}
    (conversation,), responses = world.all_conversations(), world.all_responses()
    world.remove_item(name, conversation.items[-1].id)
    world.remove_response(responses[-1].id)
    world.add_response(name, MIDNIGHT + 50_000, [said("q"), said("a", "assistant")])
    reader.load()
    for again in range(2):
        reader.sync(full=full)
        landed = {table: [row["id"] for row in reader.rows(table)] for table in before}
        assert {table: len(ids) for table, ids in landed.items()} == {"items": 6, "responses": 3}
        assert {item.id for item in conversation.items} < set(landed["items"])
        assert reader.differences() == {}, f"after {again + 1} syncs"
    assert before == {"items": 4, "responses": 2}


def test_a_conversation_and_a_list_of_responses_that_were_emptied_lose_nothing(
    world: World, make: Make
) -> None:
    name = talk(world, "u")
    reader = make(world)
    reader.sync()
    (conversation,) = world.all_conversations()
    for item in list(conversation.items):
        world.remove_item(name, item.id)
    for response in world.all_responses():
        world.remove_response(response.id)
    world.touch(name)
    reader.sync(full=True)
    assert [len(reader.rows(table)) for table in ("items", "responses")] == [4, 2]
    assert reader.differences() == {}


class Ticking(ManualClock):
    """A clock that goes on whenever it is read: what happens in the meantime is seen bit by bit."""

    def __call__(self) -> float:
        self.advance(0.2)
        return super().__call__()


@pytest.mark.slow
def test_a_conversation_of_10_000_items_is_read_while_it_grows(make: Make) -> None:
    noon = MIDNIGHT + 12 * 3_600
    world = World(clock=Ticking(noon))
    name = world.create_conversation(MIDNIGHT + 3_600, "u", WEB)
    for turn in range(100):
        at = MIDNIGHT + 3_600 + turn if turn < 70 else noon + 2 * (turn - 60)
        world.add_response(name, at, [said("x")] * 100)
    (conversation,) = world.all_conversations()
    ids = [item.id for item in conversation.items]
    reader = make(world)
    for _ in range(2):
        reader.load()
        reader.sync()
        rows = reader.rows("items")
        read = {row["id"] for row in rows}
        assert 7_000 <= len(rows) == len(read)
        assert read == set(ids[: len(read)]), "as far as it was read, none is missing"
        assert {row["added_at_source"] for row in rows} == {"response"}
    world.clock = ManualClock(LATER)
    before = len(reader.server.requests)
    reader.load()
    reader.sync()
    assert {row["id"] for row in reader.rows("items")} == set(ids)
    assert len(reader.rows("items")) == 10_000
    assert reader.asked(before).count("items") <= (10_000 - len(read)) // 100 + 2
    assert reader.differences() == {}
    assert reader.classes() == {"match", "not derivable"}


def test_days_without_usage_loaded_are_refused_with_the_command_that_loads_them(
    world: World, make: Make
) -> None:
    reader = make(world, loaded=False)
    with pytest.raises(FileNotFoundError, match="mka1-usage run --start 2024-01-01"):
        reader.sync()
    assert reader.server.requests == []


MARKER = "Zaphod-Beeblebrox-4711"


def test_what_people_wrote_is_found_nowhere_unless_it_is_asked_for(
    world: World, make: Make, tmp_path: Path
) -> None:
    at = MIDNIGHT + 3_600
    name = world.create_conversation(at, "u", WEB)
    odd = {"type": "weird_call", "arguments": MARKER, "nested": {"deep": [MARKER]}}
    world.add_response(name, at, [said(MARKER), odd])
    world.add_items(name, [{"type": "message", "role": "user", "content": [{"text": MARKER}]}], at)
    reader = make(world)
    reader.sync()
    items = {row["type"]: row["content_chars"] for row in reader.rows("items")}
    assert items == {"message": len(MARKER), "weird_call": None}
    assert MARKER.encode() not in _everything(tmp_path)
    asked = Reader(reader.server, Lake(tmp_path / "asked"), reader.days)
    asked.load()
    asked.sync(keep_content=True)
    assert sum(MARKER in row["body"] for row in asked.rows("item_contents")) == 3
    for dataset in ("items", "conversations", "responses"):
        assert MARKER not in str(asked.rows(dataset))


def _everything(folder: Path) -> bytes:
    """All bytes below a folder, columns decoded: compressed Parquet hides its text."""
    read = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    tables = [str(pq.read_table(path).to_pylist()) for path in folder.rglob("*.parquet")]
    assert tables
    return b"".join(read) + "".join(tables).encode()


def test_observed_days_are_the_same_bytes_however_often_they_are_synced(
    world: World, make: Make
) -> None:
    for number in range(5):
        talk(world, f"u{number}", hour=number)
    reader = make(world, days=(0, 1))
    reader.sync()
    before = {
        name: digest
        for name, digest in digests(reader.lake).items()
        if name.startswith(("observed", "reconciliation", "items", "responses"))
    }
    reader.sync(full=True)
    assert before.items() <= digests(reader.lake).items()
    assert len(before) == 2 * 4 + 1 + 1


def test_every_measure_of_the_contract_is_compared(world: World, make: Make) -> None:
    talk(world, "u")
    reader = make(world)
    reader.sync()
    assert {row["measure"] for row in reader.rows("reconciliation")} == set(MEASURES)
