"""Reconciliation: every difference is named for what it is, and for nothing else.

Each case is a user of its own, with what usage reports, what was seen, and the classes that must
come out. All cases are run alone, and all together in one lake.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversations import cursors, observe
from pipeline.conversations import reconcile as reconciling
from pipeline.lake.commit import publish
from pipeline.lake.schemas import CLASSES, DATASETS, MEASURES
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.query.reconciliation import summary, worst
from pipeline.timeline import day_window
from tests.conversations.seen import NOON, Conversation, Item, Response, Sight, land_seen
from tests.lake.served import DAY, Row, plant, rows_of, stand, temporary

Connection = duckdb.DuckDBPyConnection
DAY_SECONDS = 86_400
CREATED, ADDED, OPERATIONS = MEASURES
BEFORE, NEXT, OPEN = (DAY + timedelta(days=n) for n in (-1, 1, 2))
DAYS = [BEFORE, DAY, NEXT, OPEN]
FAR = day_window(OPEN).end

Place = tuple[int, str | None, str]
"""Days after DAY, key, measure."""
Reported = Mapping[tuple[int, str | None], tuple[int | None, int | None]]
"""By days after DAY and key: conversations and items."""


@dataclass(frozen=True)
class Case:
    """What usage reports by day and key (conversations, items), what was seen, what comes out."""

    name: str
    reported: Reported
    seen: tuple[Sight, ...]
    expected: Mapping[Place, str] = field(default_factory=dict)
    visited: tuple[str, ...] = ("key", "other")
    lost: tuple[str, ...] = ()


def at(days: float) -> float:
    return NOON + days * DAY_SECONDS


def said(conversation: str, *names: str, on: float = 0) -> tuple[Sight, ...]:
    """Items of a response of that day, with the response."""
    response = f"{conversation}-response-{on}"
    return (
        Response(response, conversation, at(on)),
        *(Item(name, conversation, response, seen_at=at(3)) for name in names),
    )


def undated(conversation: str, *names: str, on: float) -> tuple[Sight, ...]:
    """Items without a response, first seen on that day."""
    return tuple(Item(name, conversation, seen_at=at(on)) for name in names)


MISSING_ITEM: Mapping[Place, str] = {(0, "key", ADDED): "unexplained"}
ONE: Reported = {(0, "key"): (1, 2)}
CASES = [
    Case("all is there", ONE, (Conversation("c"), *said("c", "i", "j"))),
    Case("nothing but reads", {(0, "key"): (0, 0)}, ()),
    Case("all is there on three days",
         {(-1, "key"): (1, 1), (0, "key"): (0, 1), (1, "key"): (0, 1)},
         (Conversation("c", at(-1)), *said("c", "i", on=-1), *said("c", "j"),
          *said("c", "k", on=1))),
    Case("deleted after all was read",
         ONE, (Conversation("c", deleted_at=at(0.1)), *said("c", "i", "j"))),
    # Not derivable
    Case("a key that is not read", {(0, "foreign"): (1, 2)}, (),
         {(0, "foreign", CREATED): "not derivable", (0, "foreign", ADDED): "not derivable"}),
    Case("a user that the key may not see", ONE, (),
         {(0, "key", CREATED): "not derivable", (0, "key", ADDED): "not derivable"}, visited=()),
    Case("a user that was not visited though all is there",
         ONE, (Conversation("c"), *said("c", "i", "j")),
         {(0, "key", CREATED): "not derivable", (0, "key", ADDED): "not derivable"}, visited=()),
    Case("usage without a key", {(0, None): (1, 2)}, (),
         {(0, None, CREATED): "not derivable", (0, None, ADDED): "not derivable"}),
    Case("a measure that is not reported", {(0, "key"): (None, 2)},
         (Conversation("c"), *said("c", "i", "j")), {(0, "key", CREATED): "not derivable"}),
    Case("seen under two keys",
         {(0, "key"): (1, 1), (1, "key"): (0, 1)},
         (Conversation("c"), Conversation("c", api_key_id="other"),
          *said("c", "i"), *said("c", "j", on=1)),
          dict.fromkeys([*product([0], ["key", None], [CREATED, ADDED]), (1, "key", ADDED),
                        (1, None, CREATED), (1, None, ADDED)], "not derivable")),
    Case("seen under two keys, and more is missing than that",
         {(0, "key"): (1, 1), (0, "other"): (1, 1)},
         (Conversation("c"), Conversation("c", api_key_id="other"), *said("c", "i")),
         {(0, "key", CREATED): "unexplained", (0, "key", ADDED): "unexplained",
          (0, "other", CREATED): "unexplained", (0, "other", ADDED): "unexplained",
          (0, None, CREATED): "not derivable", (0, None, ADDED): "not derivable"}),
    # Late
    Case("usage of an open day", {(2, "key"): (4, 0)}, (Conversation("c", at(2)),),
         {(2, "key", CREATED): "late"}),
    Case("usage of an open day that lags behind", {}, (Conversation("c", at(2)),),
         {(2, "key", CREATED): "late"}),
    # Undated
    Case("items without a response, read a day later",
         {(0, "key"): (1, 3)},
         (Conversation("c"), *said("c", "i"), *undated("c", "j", "k", on=1)),
         {(0, "key", ADDED): "undated", (1, "key", ADDED): "undated"}),
    Case("items without a response, read on the same day",
         {(0, "key"): (1, 3)}, (Conversation("c"), *said("c", "i"), *undated("c", "j", "k", on=0))),
    Case("more is missing than is undated",
         {(0, "key"): (1, 4)},
         (Conversation("c"), *said("c", "i"), *undated("c", "j", "k", on=1)),
         {(0, "key", ADDED): "unexplained", (1, "key", ADDED): "undated"}),
    Case("more is too many than is undated",
         {(0, "key"): (1, 0)}, (Conversation("c"), *said("c", "i"), *undated("c", "j", on=0)),
         MISSING_ITEM),
    Case("undated items that are counted on the day already",
         {(0, "key"): (1, 3)}, (Conversation("c"), *said("c", "i"), *undated("c", "j", on=0)),
         MISSING_ITEM),
    Case("too many, and undated items of another day",
         {(0, "key"): (1, 0)}, (Conversation("c"), *said("c", "i"), *undated("c", "j", on=1)),
         {(0, "key", ADDED): "unexplained", (1, "key", ADDED): "undated"}),
    Case("undated items of a conversation that was not there yet",
         {(0, "key"): (0, 1), (1, "key"): (1, 0)},
         (Conversation("c", at(1)), *undated("c", "j", on=1)),
         {(0, "key", ADDED): "unexplained", (1, "key", ADDED): "undated"}),
    Case("undated items that were seen before",
         {(-1, "key"): (1, 1), (0, "key"): (0, 1)},
         (Conversation("c", at(-1)), *undated("c", "j", on=-1)), MISSING_ITEM),
    # Deleted
    Case("gone before it was listed, but not its response",
         ONE, said("never landed"),
         {(0, "key", CREATED): "deleted", (0, "key", ADDED): "deleted"}),
    Case("two gone before they were listed",
         {(0, "key"): (2, 5)}, (*said("never landed"), *said("nor this")),
         {(0, "key", CREATED): "deleted", (0, "key", ADDED): "deleted"}),
    Case("more is missing than responses name",
         {(0, "key"): (2, 2)}, said("never landed"),
         {(0, "key", CREATED): "unexplained", (0, "key", ADDED): "deleted"}),
    Case("gone, and responses of a later day too",
         {(0, "key"): (1, 1), (1, "key"): (1, 1)},
         (*said("never landed"), *said("never landed", on=1)),
         {(0, "key", CREATED): "deleted", (0, "key", ADDED): "deleted",
          (1, "key", CREATED): "unexplained", (1, "key", ADDED): "deleted"}),
    Case("listed as deleted, its items not to be had",
         ONE, (Conversation("c", deleted_at=at(0.1)),), {(0, "key", ADDED): "deleted"}),
    Case("deleted on an earlier day than the missing item was added",
         {(-1, "key"): (1, 0), (0, "key"): (0, 1)},
         (Conversation("c", at(-1), deleted_at=at(-0.9)),), MISSING_ITEM),
    Case("created on a later day than the missing item was added",
         {(0, "key"): (0, 1), (1, "key"): (1, 0)},
         (Conversation("c", at(1), deleted_at=at(1.1)),), MISSING_ITEM),
    Case("lost with some items read",
         {(0, "key"): (1, 3)}, (Conversation("c"), *said("c", "i", "j")),
         {(0, "key", ADDED): "deleted"}, lost=("c",)),
    Case("lost, though nothing is missing",
         ONE, (Conversation("c"), *said("c", "i", "j")), lost=("c",)),
    Case("lost, and more was observed than is reported",
         {(0, "key"): (1, 1)}, (Conversation("c"), *said("c", "i", "j")), MISSING_ITEM,
         lost=("c",)),
    Case("deleted, and a response of it left no item",
         {(0, "key"): (1, 1), (1, "key"): (0, 2)},
         (Conversation("c", deleted_at=at(1.1)), *said("c", "i"), *said("c", on=1)),
         {(1, "key", ADDED): "deleted"}),
    Case("a response left no item, but its conversation is there",
         ONE, (Conversation("c"), *said("c", "i"), *said("c", on=0.1)), MISSING_ITEM),
    # Unexplained
    Case("one item more is reported", {(0, "key"): (1, 3)},
         (Conversation("c"), *said("c", "i", "j")), MISSING_ITEM),
    Case("one item fewer is reported", {(0, "key"): (1, 1)},
         (Conversation("c"), *said("c", "i", "j")), MISSING_ITEM),
    Case("a conversation more is reported", {(0, "key"): (2, 2)},
         (Conversation("c"), *said("c", "i", "j")), {(0, "key", CREATED): "unexplained"}),
    Case("deleted after all was read, and an item more is reported", {(0, "key"): (1, 3)},
         (Conversation("c", deleted_at=at(0.1)), *said("c", "i", "j")), MISSING_ITEM),
    Case("nothing is reported", {}, (Conversation("c"), *said("c", "i", "j")),
         {(0, "key", CREATED): "unexplained", (0, "key", ADDED): "unexplained"}),
]  # fmt: skip


def own(case: Case) -> tuple[Sight, ...]:
    """The case's sights, under the user and the ids of the case alone."""

    def named(name: str | None) -> str | None:
        return name and f"{case.name}/{name}"

    found: list[Sight] = []
    for sight in case.seen:
        fields = dict(vars(sight)) | {"id": named(sight.id)}
        if not isinstance(sight, Item):
            fields["user_id"] = case.name
        for column in ("conversation_id", "response_id"):
            if column in fields:
                fields[column] = named(fields[column])
        found.append(type(sight)(**fields))
    return tuple(found)


def observe_all(con: Connection, lake: Lake, days: Iterable[date]) -> None:
    observe.observe_days(con, lake, {day: day_window(day).end for day in days}, {})


def read_at(day: date) -> float:
    """When usage of the day was read: of all but OPEN once it was final."""
    return FAR + 9 * DAY_SECONDS if day < OPEN else 0


def reconcile_days(
    con: Connection,
    lake: Lake,
    days: Iterable[date],
    *,
    visited: Iterable[tuple[str, str | None]],
    lost: Iterable[str] = (),
) -> tuple[date, ...]:
    """Reconcile as after a sync that read these listings, and lost these conversations."""
    read = set(visited)
    state = cursors.SyncState()
    for name in lost:
        state.put_tail(cursors.TailState(name, unreadable=True))
    cursors.save(lake, state)
    for day in lake.days("usage_1d"):
        rows = [
            {name: row[name] for name in cursors.VISITS.names}
            | {name: row[name] or 0 for name in MEASURES}
            for row in pq.ParquetFile(lake.path("usage_1d", day)).read().to_pylist()
            if (row["api_key_id"], row["user_id"]) in read
        ]
        table = pa.Table.from_pylist(rows, schema=cursors.VISITS)
        cursors.save_visits(lake, day, table)
        publish(con, lake, day, {}, {"usage": read_at(day)})
    return reconciling.reconcile_days(con, lake, days)


def reconcile(con: Connection, lake: Lake, cases: Iterable[Case]) -> None:
    cases = list(cases)
    land_seen(con, lake, *(sight for case in cases for sight in own(case)))
    observe_all(con, lake, DAYS)
    rows: dict[date, list[Row]] = {day: [] for day in DAYS}
    for case in cases:
        for (offset, key), (created, added) in case.reported.items():
            day = DAY + timedelta(days=offset)
            rows[day].append(usage(day, case.name, key, created, added))
    for day in DAYS:
        plant(lake, "usage_1d", rows[day], day, read_at=read_at(day))
    reconcile_days(
        con,
        lake,
        DAYS,
        visited=[(key, case.name) for case in cases for key in case.visited],
        lost=[f"{case.name}/{name}" for case in cases for name in case.lost],
    )


def usage(
    day: date, user: str | None, key: str | None, created: int | None, added: int | None
) -> Row:
    start, end = day_window(day).start, day_window(day).end
    row: Row = {"start_time": start, "end_time": end, "user_id": user, "api_key_id": key}
    return row | {CREATED: created, ADDED: added, OPERATIONS: 7}


def differing(lake: Lake, user: str) -> dict[Place, str]:
    """The classes of a user's rows but those that match, operations left out."""
    return {
        ((day - DAY).days, None if row["api_key_id"] is None else str(row["api_key_id"]),
         str(row["measure"])): str(row["class"])
        for day in DAYS
        for row in rows_of(lake.path("reconciliation", day))
        if row["user_id"] == user and row["class"] != "match" and row["measure"] != OPERATIONS
    }  # fmt: skip


@pytest.fixture(scope="module")
def together(con: Connection, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """All cases in one lake, which is only read."""
    lake = Lake(tmp_path_factory.mktemp("together") / "lake")
    reconcile(con, lake, CASES)
    return lake


@pytest.mark.slow  # the usual run has them in one lake, and some of them in others
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_difference_is_named_for_what_it_is(con: Connection, lake: Lake, case: Case) -> None:
    reconcile(con, lake, [case])
    assert differing(lake, case.name) == case.expected


def test_all_differences_together_are_named_and_nothing_else(together: Lake) -> None:
    found = {case.name: differing(together, case.name) for case in CASES}
    assert found == {case.name: dict(case.expected) for case in CASES}
    names = {c for case in CASES for c in case.expected.values()} | {"match"}
    assert names == set(CLASSES)


@settings(max_examples=4, deadline=None)
@given(cases=st.lists(st.sampled_from(CASES), min_size=2, unique_by=lambda case: case.name))
def test_no_case_changes_what_another_is_named(con: Connection, cases: list[Case]) -> None:
    with temporary() as folder:
        lake = Lake(Path(folder))
        reconcile(con, lake, cases)
        assert [differing(lake, case.name) for case in cases] == [c.expected for c in cases]


def test_every_row_says_what_it_compares(con: Connection, lake: Lake) -> None:
    reconcile(con, lake, [next(case for case in CASES if case.name == "one item more is reported")])
    rows = rows_of(lake.path("reconciliation", DAY))
    assert [
        tuple(row[c] for c in ("measure", "reported", "observed", "difference", "class"))
        for row in rows
    ] == [
        (CREATED, 1, 1, 0, "match"),
        (ADDED, 3, 2, 1, "unexplained"),
        (OPERATIONS, 7, None, None, "not derivable"),
    ]
    assert {row["day"] for row in rows} == {day_window(DAY).start}
    assert list(rows[0]) == DATASETS["reconciliation"].schema.names


def test_the_key_owners_own_use_is_a_listing_like_any_other(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Conversation("c", user_id=None), *undated("c", "i", on=1))
    observe_all(con, lake, [DAY, NEXT])
    plant(lake, "usage_1d", [usage(DAY, None, "key", 1, 1)])
    plant(lake, "usage_1d", [], NEXT)
    for visited, expected in (
        ([("key", None)], {(CREATED, "match"), (ADDED, "undated")}),
        ([("key", "ada")], {(CREATED, "not derivable"), (ADDED, "not derivable")}),
    ):
        reconcile_days(con, lake, [DAY], visited=visited)
        rows = rows_of(lake.path("reconciliation", DAY))
        assert {(r["measure"], r["class"]) for r in rows if r["measure"] != OPERATIONS} == expected


def test_a_listing_that_is_named_twice_and_a_lost_one_too_count_once(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Conversation("c"), *said("c", "i"), *undated("c", "j", on=1))
    observe_all(con, lake, [DAY])
    plant(lake, "usage_1d", [usage(DAY, "ada", "key", 1, 3)])
    listings = [("key", "ada")] * 2
    reconcile_days(con, lake, [DAY], visited=listings, lost=["c", "c"])
    rows = rows_of(lake.path("reconciliation", DAY))
    assert [(row["reported"], row["class"]) for row in rows] == [
        (1, "match"),
        (3, "deleted"),
        (7, "not derivable"),
    ]


def test_days_alone_or_together_are_the_same_and_again_is_nothing_new(
    con: Connection, lake: Lake, together: Lake
) -> None:
    shutil.copytree(together.root, lake.root, symlinks=True)
    before = stand(lake)
    visited = [(key, case.name) for case in CASES for key in case.visited]
    lost = [f"{case.name}/{name}" for case in CASES for name in case.lost]
    for day in DAYS:
        assert not reconcile_days(con, lake, [day], visited=visited, lost=lost)
    assert stand(lake) == before


@pytest.mark.parametrize("missing", ["usage_1d", "observed_1d"])
def test_a_day_without_both_sides_cannot_be_reconciled(
    con: Connection, lake: Lake, missing: str
) -> None:
    for name in {"usage_1d", "observed_1d"} - {missing}:
        plant(lake, name, [])
    with pytest.raises(FileNotFoundError, match=f"{DAY} cannot be reconciled: {missing}"):
        reconcile_days(con, lake, [DAY], visited=[])
    assert lake.days("reconciliation") == []


def test_a_day_without_anything_is_reconciled(con: Connection, lake: Lake) -> None:
    reconcile(con, lake, [])
    assert lake.days("reconciliation") == DAYS
    assert (
        worst(con, Snapshot(lake), DAYS, 5).num_rows
        == summary(con, Snapshot(lake), DAYS).num_rows
        == 0
    )


def test_the_worst_are_the_unexplained_then_the_largest(con: Connection, together: Lake) -> None:
    rows = worst(con, Snapshot(together), DAYS, 1_000).to_pylist()
    ranks = [(row["class"] != "unexplained", -abs(row["difference"])) for row in rows]
    assert ranks == sorted(ranks)
    expected = [c for case in CASES for c in case.expected.values() if c != "not derivable"]
    assert sorted(row["class"] for row in rows) == sorted(expected)
    assert worst(con, Snapshot(together), DAYS, 3).to_pylist() == rows[:3]
    of_one_day = worst(con, Snapshot(together), [OPEN], 1_000).to_pylist()
    assert {row["day"].date() for row in of_one_day} == {OPEN}


def test_the_summary_counts_every_comparison(con: Connection, together: Lake) -> None:
    rows = summary(con, Snapshot(together), DAYS).to_pylist()
    everything = [r for day in DAYS for r in rows_of(together.path("reconciliation", day))]
    assert sum(row["comparisons"] for row in rows) == len(everything)
    for row in rows:
        own_rows = [
            r for r in everything if (r["measure"], r["class"]) == (row["measure"], row["class"])
        ]
        assert len(own_rows) == row["comparisons"]
