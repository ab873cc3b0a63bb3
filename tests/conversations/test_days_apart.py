"""Records of days that are not loaded stand apart, a month each, and move once their day is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.apart import apart, is_apart
from pipeline.conversations.merge import Merged, place_rows
from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.lake import engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.manifest import days_that_owe
from pipeline.lake.retention import prune
from pipeline.lake.schemas import OBSERVED_DATASETS, RECONCILIATION, RECORD_DATASETS
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.retention import Retention
from pipeline.timeline import DAY as SECONDS
from pipeline.timeline import day_of, day_window
from tests.conversations.seen import (
    EVERY_DAY,
    FAR,
    Conversation,
    Item,
    Response,
    Sight,
    days_of,
    exact,
    land_seen,
    landed,
)
from tests.conversations.test_repair import garble_pages
from tests.lake.served import DAY, MIDNIGHT, temporary
from tests.synced import Reader, rows_of

Connection = duckdb.DuckDBPyConnection
TABLES = (*RECORD_DATASETS, *OBSERVED_DATASETS, RECONCILIATION.name)


def talk(number: int, body: str | None = None) -> list[Sight]:
    """A conversation, a response and an item so many days after DAY."""
    at = MIDNIGHT + number * SECONDS + 3_600
    name = f"c{number}"
    return [
        Conversation(name, created_at=at),
        Response(f"r{number}", conversation_id=name, created_at=at),
        Item(f"i{number}", conversation_id=name, response_id=f"r{number}", body=body),
    ]


def after(number: int) -> date:
    return DAY + timedelta(days=number)


def place(con: Connection, lake: Lake, *loaded: date) -> Merged:
    return place_rows(con, lake, FAR, loaded)


def test_a_month_that_is_not_loaded_takes_one_day_of_files(con: Connection, lake: Lake) -> None:
    sights = [sight for number in range(-90, 3) for sight in talk(number)]
    land_seen(con, lake, *sights, loaded=[DAY, after(1)])
    own = [day for day in lake.all_days() if not is_apart(day)]
    assert own == [DAY, after(1)]
    assert len(lake.all_days()) == len(own) + len(
        {after(number).replace(day=1) for number in range(-90, 3)}
    )
    assert {name: day for name, day in days_of(lake, "items").items() if day in own} == {
        "i0": DAY,
        "i1": after(1),
    }
    assert len(landed(lake, "conversations")) == 93


def test_they_move_with_what_they_say_once_their_day_is_loaded(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, *talk(0, "hello"), *talk(1, "there"), loaded=[])
    together = apart(DAY)
    assert {*days_of(lake, "item_contents").values()} == {together, apart(after(1))}
    assert place(con, lake).days == dict.fromkeys(RECORD_DATASETS, ())
    moved = place(con, lake, DAY)
    for name in RECORD_DATASETS:
        assert DAY in moved.days[name]
    assert days_of(lake, "conversations")["c0"] == DAY
    assert days_of(lake, "responses")["r0"] == DAY
    assert days_of(lake, "items")["i0"] == DAY
    assert days_of(lake, "item_contents")["i0"] == DAY
    assert [row["body"] for row in exact(lake, "item_contents") if row["id"] == "i0"] == ["hello"]
    assert place(con, lake, DAY).days == dict.fromkeys(RECORD_DATASETS, ())


def test_what_is_damaged_where_it_stands_apart_is_taken_out_and_owed(
    con: Connection, lake: Lake
) -> None:
    """By a byte of its rows: the file is as long as it was, and ends as it did."""
    land_seen(con, lake, *talk(0), *talk(-1), loaded=[])
    together = apart(DAY)
    garble_pages(lake.path("responses", together).resolve())
    moved = place(con, lake, DAY)
    assert [(it.day, it.path.stem) for it in moved.damaged] == [(together, "responses")]
    assert days_of(lake, "conversations") == {"c-1": together, "c0": DAY}
    assert days_that_owe(lake, "read") == [together]


def test_who_was_listed_for_two_users_is_so_after_the_move(con: Connection, lake: Lake) -> None:
    ada, bob = (Conversation("c", created_at=MIDNIGHT, user_id=user) for user in ("ada", "bob"))
    land_seen(con, lake, ada, bob, loaded=[])
    place(con, lake, DAY)
    assert landed(lake, "conversations")["c"]["user_id"] is None
    land_seen(con, lake, ada, loaded=[DAY])
    assert landed(lake, "conversations")["c"]["user_id"] is None


def test_what_a_lake_has_under_its_own_day_from_before_stays_right(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, *talk(0, "old"), *talk(1, "old"), loaded=EVERY_DAY)
    land_seen(con, lake, *talk(0, "new"), *talk(2), loaded=[after(9)])
    assert set(landed(lake, "items")) == {"i0", "i1", "i2"}
    assert days_of(lake, "conversations")["c0"] == apart(DAY)
    place(con, lake, DAY, after(1), after(2))
    assert days_of(lake, "items") == {"i0": DAY, "i1": after(1), "i2": after(2)}
    assert len(exact(lake, "item_contents")) == 2


def test_a_day_that_is_loaded_while_a_sync_merges_keeps_what_it_has_got(
    con: Connection, lake: Lake
) -> None:
    """DAY is the last of its month: a merge of the day before it writes where DAY's rows stood."""
    land_seen(con, lake, *talk(0, "before"), loaded=[])
    late = Conversation("late", created_at=MIDNIGHT)
    answer = Response("late", conversation_id="late", created_at=MIDNIGHT)
    item = Item("late", conversation_id="late", response_id="late", body="since")
    land_seen(con, lake, late, answer, item, loaded=[DAY])
    land_seen(con, lake, *talk(-1, "other"), loaded=[DAY])
    for name in RECORD_DATASETS:
        assert sorted(days_of(lake, name).values()) == [apart(DAY), DAY, DAY]


def test_what_moves_and_is_told_another_time_at_once_stands_where_it_is_told(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, *talk(0, "hello"), loaded=[])
    again = Response("r0", conversation_id="c0", created_at=MIDNIGHT + SECONDS)
    land_seen(con, lake, again, loaded=[DAY, after(1)])
    assert days_of(lake, "items") == days_of(lake, "item_contents") == {"i0": after(1)}
    assert len(exact(lake, "items")) == 1


def test_what_an_older_lake_has_under_a_day_goes_beside_what_stands_apart(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, *talk(0), Conversation("d", created_at=MIDNIGHT), loaded=EVERY_DAY)
    land_seen(con, lake, *talk(-1), loaded=[])
    land_seen(con, lake, Conversation("d", created_at=MIDNIGHT + SECONDS), loaded=[])
    assert set(landed(lake, "conversations")) == {"c-1", "c0", "d"}


HISTORIES = st.lists(
    st.tuples(
        st.lists(st.integers(-70, 40), max_size=4), st.frozensets(st.integers(-70, 40), max_size=6)
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@given(history=HISTORIES)
@settings(max_examples=8)
def test_any_order_of_syncs_and_loads_ends_in_the_same_records(
    history: list[tuple[list[int], frozenset[int]]],
) -> None:
    """Each step: what is seen, and which days are loaded from then on."""
    with temporary() as folder, closing(engine.connect()) as con:
        lake, other = Lake(Path(folder) / "steps"), Lake(Path(folder) / "at once")
        loaded: set[date] = set()
        for seen, days in history:
            loaded |= {after(number) for number in days}
            place_rows(con, lake, FAR, loaded)
            sights = [sight for number in seen for sight in talk(number, f"body {number}")]
            land_seen(con, lake, *sights, loaded=loaded)
        everything = [
            sight
            for number in sorted({number for seen, _ in history for number in seen})
            for sight in talk(number, f"body {number}")
        ]
        land_seen(con, other, *everything, loaded=loaded)
        assert rows_of(lake, RECORD_DATASETS) == rows_of(other, RECORD_DATASETS)
        for name in RECORD_DATASETS:
            assert days_of(lake, name) == days_of(other, name)
            assert all(day in loaded or is_apart(day) for day in days_of(lake, name).values())


# Through syncs


FIRST = date(2024, 1, 1)
SINCE = day_window(FIRST).start


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    """A platform of three years, with a conversation every twentieth day, also after FIRST."""
    world = World(keys=("key_web",), clock=ManualClock(SINCE + 500 * SECONDS))
    said: list[dict[str, object]] = [{"type": "message", "role": "user", "content": "q"}]
    for number in range(-600, 500, 20):
        at = SINCE + number * SECONDS + 60
        name = world.create_conversation(at, "ada", "key_web")
        world.add_response(name, at, said)
        world.touch(name)
    with EmulatorServer(world) as started:
        yield started


def test_a_week_of_a_platform_of_years_makes_a_folder_a_month_beside_it(
    server: EmulatorServer, tmp_path: Path
) -> None:
    week = [FIRST + timedelta(days=number) for number in range(7)]
    reader = Reader(server, Lake(tmp_path / "lake"), week)
    reader.load()
    reader.sync(keep_content=True)
    lake = reader.lake
    assert [day for day in lake.all_days() if not is_apart(day)] == week
    assert len(lake.all_days()) == 7 + 36
    assert len(reader.rows("conversations")) == 55
    snapshot = Snapshot(lake)
    assert snapshot.extent == (week[0], week[-1])
    with closing(engine.connect(lake)) as con:
        snapshot.bind_coverage(con)
        assert con.sql(
            "SELECT count(*) FROM coverage WHERE start_time < '2000-01-01'"
        ).fetchall() == [(0,)]
    assert verify(lake, build_catalog(lake, tmp_path / "usage.duckdb")).problems == ()


def test_days_that_are_loaded_later_get_what_they_would_have_got_at_first(
    server: EmulatorServer, tmp_path: Path
) -> None:
    days = [FIRST + timedelta(days=number) for number in (-40, -20, -19, 0, 20, 21)]
    steps = [days[3:4], days[2:5], days]
    late = Reader(server, Lake(tmp_path / "late"), days)
    for step in steps:
        part = Reader(server, late.lake, step)
        part.load()
        part.sync(keep_content=True)
    whole = Reader(server, Lake(tmp_path / "whole"), days)
    whole.load()
    whole.sync(keep_content=True)
    own = [[day for day in it.all_days() if not is_apart(day)] for it in (late.lake, whole.lake)]
    assert own == [days, days]
    assert rows_of(late.lake, TABLES) == rows_of(whole.lake, TABLES)


def test_what_stood_apart_and_was_lost_is_owed_until_everybody_was_read_again(
    tmp_path: Path,
) -> None:
    """A reading of some days brings what their users did, and others' records are still lost."""
    world = World(keys=("key_web",), clock=ManualClock(SINCE + 5 * SECONDS))
    for number, user in enumerate(("ada", "bob")):
        for at in (SINCE - 400 * SECONDS, SINCE + number * SECONDS):
            name = world.create_conversation(at, user, "key_web")
            world.add_response(name, at)
    days = [FIRST, FIRST + timedelta(days=1)]
    with EmulatorServer(world) as server:
        whole, part = (Reader(server, Lake(tmp_path / "lake"), asked) for asked in (days, days[:1]))
        whole.load()
        whole.sync()
        (place,) = filter(is_apart, whole.lake.days("responses"))
        whole.lake.path("responses", place).resolve().unlink()
        for full in (False, True):
            assert any("have to be read again" in it for it in part.sync(full=full).warnings)
        assert whole.sync(full=True).warnings == ()
        assert len(whole.rows("responses")) == 4


def test_contents_that_stand_apart_are_dropped_when_all_of_the_month_is_old(
    server: EmulatorServer, tmp_path: Path
) -> None:
    reader = Reader(server, Lake(tmp_path / "lake"), [FIRST])
    reader.load()
    reader.sync(keep_content=True)
    now = server.world.clock()
    kept_days = 100
    pruned = prune(reader.lake, Retention(contents=kept_days), now)
    left = {
        day_of(int(row["added_at"].timestamp()))
        for place in reader.lake.days("item_contents")
        for row in pq.read_table(reader.lake.path("items", place)).to_pylist()
    }
    oldest = day_of(int(now)) - timedelta(days=kept_days)
    assert pruned.not_final == []
    assert min(left) >= oldest.replace(day=1)
    assert max(left) > oldest
