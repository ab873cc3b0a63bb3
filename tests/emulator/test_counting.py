"""Endpoint 1's arithmetic: what a bucket holds, at its edges, for every grouping and moment."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator import Event, ManualClock, World

WIDTHS = {"1m": 60, "1h": 3_600, "1d": 86_400}
GROUPINGS: list[tuple[str, ...]] = [
    (),
    ("user_id",),
    ("api_key_id",),
    ("user_id", "api_key_id"),
    ("api_key_id", "user_id"),
]
MEASURES = ("num_conversations_created", "num_items_added", "num_operations")

moments = st.one_of(
    st.floats(-200_000, 200_000, allow_nan=False),
    st.integers(-3_000, 3_000).map(lambda minute: minute * 60.0),
    st.integers(-60, 60).map(lambda hour: hour * 3_600 - 1e-9),
    st.integers(-3, 3).map(lambda day: day * 86_400.0),
)
names = st.sampled_from([None, "", "a", "b", "Ü", "漢", "\U0001f600"])
events = st.builds(
    Event,
    at=moments,
    user_id=names,
    api_key_id=names,
    conversations_created=st.integers(0, 2),
    items_added=st.integers(0, 2),
    operations=st.integers(0, 2),
    visible_at=st.none() | moments,
)


def recount(
    log: Sequence[Event],
    now: float,
    start: int,
    end: int,
    group_by: Sequence[str],
    user_ids: Sequence[str] | None,
) -> dict[tuple[str | None, str | None], tuple[int, int, int]]:
    """One bucket by looking at every event anew."""
    rows: dict[tuple[str | None, str | None], tuple[int, int, int]] = {}
    for event in log:
        known = event.at <= now and (event.visible_at is None or event.visible_at <= now)
        wanted = user_ids is None or event.user_id in user_ids
        if known and wanted and start <= event.at < end:
            user = event.user_id if "user_id" in group_by else None
            key = event.api_key_id if "api_key_id" in group_by else None
            created, added, operations = rows.get((user, key), (0, 0, 0))
            rows[user, key] = (
                created + event.conversations_created,
                added + event.items_added,
                operations + event.operations,
            )
    return {group: counts for group, counts in rows.items() if any(counts)}


def rows_of(bucket: dict[str, Any]) -> dict[tuple[str | None, str | None], tuple[int, ...]]:
    rows = {
        (row["user_id"], row["api_key_id"]): tuple(row[measure] for measure in MEASURES)
        for row in bucket["results"]
    }
    assert len(rows) == len(bucket["results"]), "a group has one row"
    return rows


@settings(deadline=None)
@given(
    log=st.lists(events, max_size=30),
    now=moments,
    later=moments,
    width=st.sampled_from(sorted(WIDTHS)),
    start=st.integers(-200_000, 200_000),
    length=st.integers(0, 20 * 86_400),
    group_by=st.sampled_from(GROUPINGS),
    user_ids=st.none() | st.lists(st.sampled_from(["", "a", "漢", "nobody"]), max_size=2),
)
def test_counting_equals_looking_at_every_event_for_every_bucket(
    log: list[Event],
    now: float,
    later: float,
    width: str,
    start: int,
    length: int,
    group_by: tuple[str, ...],
    user_ids: list[str] | None,
) -> None:
    clock = ManualClock(now)
    world = World.from_events(log, clock=clock)
    seconds = WIDTHS[width]
    end = start + min(length, 20 * seconds)
    for clock.now in (now, later, now):
        buckets = world.usage(start, end, width, group_by, user_ids)
        for bucket in buckets:
            expected = recount(
                log, clock.now, bucket["start_time"], bucket["end_time"], group_by, user_ids
            )
            assert rows_of(bucket) == expected
        starts = [bucket["start_time"] for bucket in buckets]
        assert all(bucket_start % seconds == 0 for bucket_start in starts)
        if length > 0:
            assert starts[0] <= start < starts[0] + seconds
            assert buckets[-1]["start_time"] < end <= buckets[-1]["end_time"]
            assert [b["end_time"] for b in buckets[:-1]] == starts[1:]


@settings(deadline=None)
@given(log=st.lists(events, max_size=30))
def test_hours_and_days_are_the_sums_of_their_minutes(log: list[Event]) -> None:
    world = World.from_events(log)
    for day in world.usage(-86_400, 86_400, "1d", ("user_id", "api_key_id")):
        summed: dict[tuple[str | None, str | None], tuple[int, ...]] = {}
        minutes = world.usage(day["start_time"], day["end_time"], "1m", ("user_id", "api_key_id"))
        for minute in minutes:
            for group, counts in rows_of(minute).items():
                old = summed.get(group, (0, 0, 0))
                summed[group] = tuple(a + b for a, b in zip(old, counts, strict=True))
        assert summed == rows_of(day)


@pytest.mark.parametrize(
    ("at", "width", "bucket_start"),
    [
        (0.0, "1m", 0),
        (59.999999, "1m", 0),
        (60.0, "1m", 60),
        (-1e-300, "1m", -60),
        (-60.0, "1m", -60),
        (-60.000001, "1m", -120),
        (3_599.999, "1h", 0),
        (3_600.0, "1h", 3_600),
        (86_399.999, "1d", 0),
        (86_400.0, "1d", 86_400),
        (-0.5, "1d", -86_400),
        (1_709_164_800.0, "1d", 1_709_164_800),  # 2024-02-29
        (1_704_067_199.9999998, "1d", 1_703_980_800),  # the last float of 2023
    ],
)
def test_a_bucket_holds_its_start_and_not_its_end(at: float, width: str, bucket_start: int) -> None:
    world = World.from_events([Event(at, "u", "k", operations=1)])
    seconds = WIDTHS[width]
    buckets = world.usage(bucket_start - seconds, bucket_start + 2 * seconds, width)
    assert [len(bucket["results"]) for bucket in buckets] == [0, 1, 0]


def test_a_result_row_has_the_documented_fields_in_the_documented_order() -> None:
    world = World.from_events([Event(1_704_067_200, "user_123", "key_abc123", 5, 18, 30)])
    bucket = world.usage(1_704_067_200, 1_704_153_600, "1d", ("user_id", "api_key_id"))[0]
    assert list(bucket.items())[:3] == [
        ("object", "bucket"),
        ("start_time", 1_704_067_200),
        ("end_time", 1_704_153_600),
    ]
    assert list(bucket["results"][0].items()) == [
        ("object", "organization.usage.conversations.result"),
        ("num_conversations_created", 5),
        ("num_items_added", 18),
        ("num_operations", 30),
        ("user_id", "user_123"),
        ("api_key_id", "key_abc123"),
    ]


def test_rows_stand_by_user_then_key_with_null_first_and_by_code_point() -> None:
    groups = [("b", None), (None, "k"), ("\U0001f600", "k"), ("\uffff", "k"), ("B", "z"), ("B", "")]
    world = World.from_events([Event(0, user, key, operations=1) for user, key in groups])
    rows = world.usage(0, 60, "1m", ("user_id", "api_key_id"))[0]["results"]
    assert [(row["user_id"], row["api_key_id"]) for row in rows] == [
        (None, "k"),
        ("B", ""),
        ("B", "z"),
        ("b", None),
        ("\uffff", "k"),
        ("\U0001f600", "k"),
    ]


def test_a_missing_end_means_now_and_the_open_bucket_is_served_whole() -> None:
    world = World.from_events([], clock=ManualClock(7_200.5))
    assert [b["start_time"] for b in world.usage(0, bucket_width="1h")] == [0, 3_600, 7_200]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("1w", ()), "1w"), (("", ()), "bucket_width"), (("1d", ("org",)), "org")],
)
def test_what_cannot_be_asked_is_refused_by_name(
    arguments: tuple[str, tuple[str, ...]], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        World().usage(0, 60, *arguments)


@pytest.mark.parametrize(
    "fields",
    [
        {"at": float("nan")},
        {"at": float("inf")},
        {"at": 0.0, "visible_at": float("nan")},
        {"at": 0.0, "operations": -1},
    ],
)
def test_an_event_that_cannot_happen_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Event(user_id=None, api_key_id=None, **fields)


def day_row(world: World) -> tuple[int, ...]:
    rows = world.usage(0, 86_400, "1d")[0]["results"]
    return tuple(rows[0][measure] for measure in MEASURES) if rows else ()


def test_a_restatement_changes_minute_hour_and_day_from_then_on() -> None:
    clock = ManualClock(100_000)
    world = World.from_events([Event(61, "u", "k", 1, 2, 3)], clock=clock)
    clock.advance(10)
    world.restate(60, "u", "k", items_added=-2, operations=4)
    for width in WIDTHS:
        rows = [row for b in world.usage(0, 86_400, width) for row in b["results"]]
        assert [[row[measure] for measure in MEASURES] for row in rows] == [[1, 0, 7]]
    clock.advance(-10.5)
    assert day_row(world) == (1, 2, 3)


def test_a_restatement_can_take_a_row_away_or_bring_a_new_one() -> None:
    world = World.from_events([Event(61, "u", "k", 1, 2, 3)])
    world.restate(119, "u", "k", drop=True)
    assert day_row(world) == ()
    world.restate(0, None, None, operations=2)
    assert day_row(world) == (0, 0, 2)


def test_a_restatement_to_less_than_nothing_is_refused() -> None:
    world = World.from_events([Event(61, "u", "k", 1, 2, 3)])
    with pytest.raises(ValueError, match="less than nothing"):
        world.restate(60, "u", "k", operations=-4)
    assert day_row(world) == (1, 2, 3)
