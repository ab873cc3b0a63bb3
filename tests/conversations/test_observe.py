"""Observed buckets are what anyone would count by hand from conversations, items and responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversations import observe
from pipeline.conversations.observe import active_pairs
from pipeline.lake.schemas import OBSERVED
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, WIDTHS, Width, Window, day_window
from tests.conversations.seen import NOON, Conversation, Item, Response, land_seen, observed_count
from tests.lake.served import DAY, MIDNIGHT, digests, leftovers, plant, rows_of, stand, temporary

Connection = duckdb.DuckDBPyConnection
DAY_SECONDS = 86_400
BEFORE, NEXT = DAY - timedelta(days=1), DAY + timedelta(days=1)
FAR = MIDNIGHT + 9 * DAY_SECONDS


def observe_days(
    con: Connection, lake: Lake, days: Sequence[date], through: int, read_at: float
) -> tuple[date, ...]:
    """Observe the days up to one moment, and each no further than it goes."""
    bounds = {day: min(max(through, day_window(day).start), day_window(day).end) for day in days}
    return observe.observe_days(con, lake, bounds, dict.fromkeys(bounds, read_at))


Counted = dict[tuple[int, str | None, str | None], tuple[int, int]]


def counted(lake: Lake, width: Width, days: Sequence[date]) -> Counted:
    """The published rows, each day's checked to be of the day and in order."""
    found: Counted = {}
    for day in days:
        rows = rows_of(lake.path(OBSERVED[width].name, day))
        starts = [int(str(row["start_time"])) for row in rows]
        assert starts == sorted(starts)
        for start, row in zip(starts, rows, strict=True):
            assert day_window(day).start <= start < day_window(day).end
            assert row["end_time"] == start + SECONDS[width]
            assert row["num_operations"] is None
            user, key = (None if row[c] is None else str(row[c]) for c in ("user_id", "api_key_id"))
            assert (start, user, key) not in found
            found[start, user, key] = (
                int(str(row["num_conversations_created"])),
                int(str(row["num_items_added"])),
            )
    return found


def test_an_item_counts_for_the_user_and_key_of_its_conversation(
    con: Connection, lake: Lake
) -> None:
    land_seen(
        con,
        lake,
        Conversation("c", NOON - DAY_SECONDS, "ada", "k1"),
        Conversation("d", NOON, None, "k2", deleted_at=NOON + 1),
        Item("i", "c"),
        Item("j", "c", seen_at=NOON + 59),
        Item("k", "d", seen_at=NOON + 60),
        Item("l", "of nobody", seen_at=NOON + 60),
    )
    observe_days(con, lake, [BEFORE, DAY], FAR, FAR)
    assert counted(lake, "1m", [BEFORE, DAY]) == {
        (NOON - DAY_SECONDS, "ada", "k1"): (1, 0),
        (NOON, None, "k2"): (1, 0),
        (NOON, "ada", "k1"): (0, 2),
        (NOON + 60, None, "k2"): (0, 1),
        (NOON + 60, None, None): (0, 1),
    }
    assert counted(lake, "1d", [DAY]) == {
        (MIDNIGHT, None, None): (0, 1),
        (MIDNIGHT, None, "k2"): (1, 1),
        (MIDNIGHT, "ada", "k1"): (0, 2),
    }


def test_a_day_on_which_nothing_was_seen_has_files_without_rows(
    con: Connection, lake: Lake
) -> None:
    assert observe_days(con, lake, [NEXT, DAY, NEXT], FAR, FAR) == (DAY, NEXT)
    for width in WIDTHS:
        loaded = lake.loaded(OBSERVED[width].name, NEXT)
        assert loaded is not None
        assert loaded.rows == 0
        assert loaded.complete(NEXT)
    assert observe_days(con, lake, [], FAR, FAR) == ()
    assert leftovers(lake) == []


def test_only_the_days_asked_for_are_published(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Conversation("c"), Conversation("d", NOON + DAY_SECONDS))
    observe_days(con, lake, [NEXT], FAR, FAR)
    assert lake.days("observed_1m") == lake.days("observed_1d") == [NEXT]


def test_what_is_the_same_is_left_alone_and_what_is_not_is_told(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Conversation("c"), Conversation("d", NOON + DAY_SECONDS))
    observe_days(con, lake, [DAY, NEXT], FAR, FAR)
    before = stand(lake)
    assert observe_days(con, lake, [DAY, NEXT], FAR, FAR) == ()
    assert stand(lake) == before
    changed = land_seen(con, lake, Item("i", seen_at=NOON + DAY_SECONDS))
    assert changed.to_observe == (NEXT,)
    assert observe_days(con, lake, [DAY, NEXT], FAR, FAR) == (NEXT,)


def test_a_conversation_that_is_seen_under_a_second_key_counts_under_none(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Conversation("c"), Item("i", seen_at=NOON + DAY_SECONDS))
    observe_days(con, lake, [DAY, NEXT], FAR, FAR)
    changed = land_seen(con, lake, Conversation("c", api_key_id="other"))
    assert observe_days(con, lake, changed.to_observe, FAR, FAR) == (DAY, NEXT)
    assert counted(lake, "1d", [DAY, NEXT]) == {
        (MIDNIGHT, "ada", None): (1, 0),
        (MIDNIGHT + DAY_SECONDS, "ada", None): (0, 1),
    }


@pytest.mark.parametrize(
    ("through", "window", "total"),
    [
        (NOON, Window(MIDNIGHT, NOON), (0, 0)),
        (NOON + 60, Window(MIDNIGHT, NOON + 60), (1, 1)),
        (MIDNIGHT, Window(MIDNIGHT, MIDNIGHT), (0, 0)),
        (MIDNIGHT - 60, Window(MIDNIGHT, MIDNIGHT), (0, 0)),
        (FAR, day_window(DAY), (1, 2)),
    ],
)
def test_what_came_later_than_is_asked_for_is_not_counted(
    con: Connection, lake: Lake, through: int, window: Window, total: tuple[int, int]
) -> None:
    seen = (Conversation("c"), Item("i", seen_at=NOON + 59.999999), Item("j", seen_at=NOON + 60))
    land_seen(con, lake, *seen)
    observe_days(con, lake, [DAY], through, FAR)
    loaded = lake.loaded("observed_1d", DAY)
    assert loaded is not None
    assert loaded.window == window
    counts = list(counted(lake, "1d", [DAY]).values())
    assert counts == ([total] if total != (0, 0) else [])


moments = st.one_of(
    st.floats(MIDNIGHT, MIDNIGHT + 2 * DAY_SECONDS - 1).map(lambda at: round(at, 3)),
    st.sampled_from([MIDNIGHT, MIDNIGHT + 59.999999, MIDNIGHT + 3_600, MIDNIGHT + 86_399.999999]),
)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_buckets_of_every_width_are_what_is_counted_by_hand(
    con: Connection, data: st.DataObject
) -> None:
    created = {name: data.draw(moments) for name in "abc"}
    made = {name: data.draw(moments) for name in "rs"}
    conversations = data.draw(
        st.lists(
            st.builds(
                Conversation,
                id=st.sampled_from("abc"),
                user_id=st.sampled_from([None, "ada", "bob"]),
                api_key_id=st.sampled_from(["k1", "k1", "k2"]),
            ),
            max_size=6,
        )
    )
    conversations = [replace(sight, created_at=created[sight.id]) for sight in conversations]
    responses = [Response(name, created_at=at) for name, at in made.items()]
    items = data.draw(
        st.lists(
            st.builds(
                Item,
                id=st.sampled_from("123456"),
                conversation_id=st.sampled_from("abcd"),
                response_id=st.none(),
                seen_at=moments,
            ),
            max_size=10,
        )
    )
    # What an item is does not change from sight to sight.
    items = [replace(item, response_id={"1": "r", "2": "s"}.get(item.id)) for item in items]
    through = data.draw(st.sampled_from([MIDNIGHT + DAY_SECONDS + 3_600, FAR]))
    days = [DAY, NEXT]
    with temporary() as folder:
        lake = Lake(Path(folder))
        land_seen(con, lake, *conversations, *responses, *items)
        observe_days(con, lake, days, through, FAR)
        for width in WIDTHS:
            expected = observed_count(conversations, items, responses, SECONDS[width], through)
            assert counted(lake, width, days) == expected


def test_days_one_by_one_are_the_same_bytes_as_all_at_once(
    con: Connection, lake: Lake, tmp_path: Path
) -> None:
    other = Lake(tmp_path / "other")
    seen = [Conversation(str(n), NOON + n * 40_000) for n in range(5)]
    said = [Item(str(n), "0", seen_at=NOON + n * 40_000) for n in range(5)]
    for one in (lake, other):
        land_seen(con, one, *seen, *said)
    days = [BEFORE, DAY, NEXT, NEXT + timedelta(days=1)]
    observe_days(con, lake, days, FAR, FAR)
    for day in reversed(days):
        observe_days(con, other, [day], FAR, FAR)
    assert digests(lake) == digests(other)


def test_active_pairs_are_those_that_used_anything_in_the_window(
    con: Connection, lake: Lake
) -> None:
    def row(minute: int, user: str | None, *counts: int | None) -> dict[str, object]:
        names = ("num_conversations_created", "num_items_added", "num_operations")
        start = MIDNIGHT + 60 * minute
        return {
            "start_time": start,
            "user_id": user,
            "api_key_id": "key",
            **dict(zip(names, counts, strict=True)),
        }

    rows = [
        row(0, "before", 9, 9, 9),
        row(1, "ada", 1, 2, 3),
        row(1, "idle", 0, 0, 0),
        row(2, "ada", 1, None, 3),
        row(2, None, None, None, 1),
        row(3, "after", 9, 9, 9),
    ]
    plant(lake, "usage_1m", rows)
    found = active_pairs(con, lake, Window(MIDNIGHT + 60, MIDNIGHT + 180)).to_pylist()
    assert [tuple(pair.values()) for pair in found] == [
        (None, "key", 0, 0, 1),
        ("ada", "key", 2, 2, 6),
    ]
    assert active_pairs(con, lake, day_window(NEXT)).num_rows == 0
