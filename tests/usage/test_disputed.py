"""A day whose totals are not the API's own is read again, and never final while they differ."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.emulator import ManualClock, World
from pipeline.lake import engine
from pipeline.lake.commit import publish
from pipeline.lake.manifest import days_to_reload
from pipeline.lake.schemas import COVERAGE, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from pipeline.usage.load import load_days
from pipeline.usage.refresh import refresh_days
from pipeline.usage.rollup import rebuild_day
from tests.bent import Bend, BentApi, Page, Params
from tests.torture.scenes import days, exact, world

FIRST, SECOND = days(2)


@pytest.fixture
def honest() -> World:
    return world(2, per_day=80)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def load(api: BentApi, lake: Lake, of: World) -> bool:
    """Load the first day; returns whether it is disputed."""
    done = load_days(api.connect, lake, [FIRST], now=of.clock)
    return any(published.disputed for published in done)


def statuses(lake: Lake) -> dict[str, set[str]]:
    """The statuses of the hours of each table of usage, all days."""
    found: dict[str, set[str]] = {}
    for path in lake.files(COVERAGE.name):
        for row in pq.read_table(path).to_pylist():
            if row["dataset"] in USAGE_DATASETS:
                found.setdefault(row["dataset"], set()).add(row["status"])
    return found


def all_are(lake: Lake, *expected: str) -> bool:
    tables = statuses(lake)
    return bool(tables) and all(found == set(expected) for found in tables.values())


def minutes(change: Callable[[Page], Page]) -> Bend:
    """Bend pages of minutes alone: the totals are right."""

    def bend(params: Params, page: Page) -> Page:
        return change(page) if params["bucket_width"] == ["1m"] else page

    return bend


def clamped_without_a_cursor(most: int) -> Bend:
    """At most so many minutes on a page, and no word of the others."""

    def clamp(page: Page) -> Page:
        return {**page, "data": page["data"][:most], "has_more": False, "next_page": None}

    return minutes(clamp)


def without_a_user(page: Page) -> Page:
    kept = [
        {**it, "results": [row for row in it["results"] if row["user_id"] != "ada"]}
        for it in page["data"]
    ]
    return {**page, "data": kept}


def counted_twice(page: Page) -> Page:
    return {**page, "data": [{**it, "results": it["results"] * 2} for it in page["data"]]}


def without_the_last(page: Page) -> Page:
    return {**page, "data": page["data"][:-1]}


def more(width: str, measure: str) -> Bend:
    """The API's own totals of a width say more of each bucket with usage."""

    def bend(params: Params, page: Page) -> Page:
        if params["bucket_width"] != [width]:
            return page
        for bucket in page["data"]:
            for row in bucket["results"]:
                row[measure] += 1
        return page

    return bend


@pytest.mark.parametrize("most", [60, 100, 1_000])
def test_minutes_that_a_server_cuts_off_without_a_cursor_are_read_by_the_hour(
    honest: World, lake: Lake, most: int
) -> None:
    assert not load(BentApi(honest, clamped_without_a_cursor(most)), lake, honest)
    assert exact(lake, honest, [FIRST])
    assert all_are(lake, "final")


@pytest.mark.parametrize(
    "bend",
    [
        clamped_without_a_cursor(10),
        minutes(without_a_user),
        minutes(counted_twice),
        more("1h", "num_conversations_created"),
        more("1d", "num_items_added"),
        more("1h", "num_operations"),
        *(
            pytest.param(more(*more_of), marks=pytest.mark.slow)
            for more_of in (
                ("1d", "num_conversations_created"),
                ("1h", "num_items_added"),
                ("1d", "num_operations"),
            )
        ),
    ],
    ids=[
        *("cut off", "a user left out", "counted twice"),
        *("1h has more c", "1d has more i", "1h has more o"),
        *("1d has more c", "1h has more i", "1d has more o"),
    ],
)
def test_a_day_that_contradicts_the_totals_is_disputed_until_it_agrees(
    honest: World, lake: Lake, bend: Bend
) -> None:
    api = BentApi(honest, bend)
    assert load(api, lake, honest)
    assert all_are(lake, "disputed")
    assert days_to_reload(lake, honest.clock()) == [FIRST]
    assert load(api, lake, honest)
    assert all_are(lake, "disputed")
    api.bend = lambda _, page: page
    assert not load(api, lake, honest)
    assert all_are(lake, "final")
    assert exact(lake, honest, [FIRST])
    assert days_to_reload(lake, honest.clock()) == []


def test_complete_through_says_nothing_of_hours_that_are_disputed(
    honest: World, lake: Lake
) -> None:
    load(BentApi(honest, minutes(without_a_user)), lake, honest)
    rows = [row for path in lake.files(COVERAGE.name) for row in pq.read_table(path).to_pylist()]
    usage = [row for row in rows if row["dataset"] in USAGE_DATASETS]
    assert [row["complete_through"] for row in usage] == [None] * len(usage)
    assert all(row["fetched_at"] is not None for row in usage)
    assert {row["status"] for row in rows if row not in usage} == {"missing"}


def test_only_the_day_that_differs_is_disputed(honest: World, lake: Lake) -> None:
    def bend(params: Params, page: Page) -> Page:
        asked = int(params["start_time"][0])
        of_second = params["bucket_width"] == ["1m"] and asked >= day_window(SECOND).start
        return without_a_user(page) if of_second else page

    done = load_days(BentApi(honest, bend).connect, lake, days(2), now=honest.clock)
    assert [one.disputed for one in done] == [False, True]
    assert days_to_reload(lake, honest.clock()) == [SECOND]


def test_pages_that_were_wrong_once_are_read_again_and_nothing_is_disputed(
    honest: World, lake: Lake
) -> None:
    seen: set[str] = set()

    def once(params: Params, page: Page) -> Page:
        first = params["bucket_width"][0] == "1m" and params["start_time"][0] not in seen
        seen.add(params["start_time"][0])
        return without_the_last(without_a_user(page)) if first and len(seen) < 4 else page

    assert not load(BentApi(honest, once), lake, honest)
    assert exact(lake, honest, [FIRST])
    assert all_are(lake, "final")


def test_a_refresh_loads_a_disputed_day_again(honest: World, lake: Lake) -> None:
    api = BentApi(honest, more("1h", "num_operations"))
    load(api, lake, honest)
    refreshed = refresh_days(api.connect, lake, now=honest.clock)
    assert refreshed.changed == (FIRST,)
    assert all_are(lake, "disputed")
    api.bend = lambda _, page: page
    assert refresh_days(api.connect, lake, now=honest.clock).changed == (FIRST,)
    assert all_are(lake, "final")
    assert refresh_days(api.connect, lake, now=honest.clock).changed == ()


def restless() -> Bend:
    """Each time they are asked for, the totals say more: the API goes on counting."""
    times = 0

    def bend(params: Params, page: Page) -> Page:
        nonlocal times
        if params["bucket_width"] != ["1m"]:
            times += 1
            for bucket in page["data"]:
                for row in bucket["results"]:
                    row["num_operations"] += times
        return page

    return bend


@pytest.mark.parametrize(("days_later", "status"), [(1.0, "provisional"), (30.0, "disputed")])
def test_totals_that_move_are_no_dispute_while_the_api_may_restate_the_day(
    honest: World, lake: Lake, days_later: float, status: str
) -> None:
    now = day_window(SECOND).end + days_later * 86_400
    load_days(BentApi(honest, restless()).connect, lake, [SECOND], now=lambda: now)
    assert all_are(lake, status)


def test_an_open_day_is_held_against_the_hours_that_are_over(honest: World, lake: Lake) -> None:
    clock = honest.clock
    assert isinstance(clock, ManualClock)
    clock.now = day_window(FIRST).start + 20 * 3_600 + 1_234.0
    api = BentApi(honest)
    assert not load(api, lake, honest)
    totals = [it for it in api.asked if it["bucket_width"] == ["1h"]]
    assert max(int(it["end_time"][0]) for it in totals) == day_window(FIRST).start + 20 * 3_600
    api.bend = minutes(without_a_user)
    assert load(api, lake, honest)


def test_an_hour_has_to_be_over_to_be_compared(honest: World, lake: Lake) -> None:
    clock = honest.clock
    assert isinstance(clock, ManualClock)
    clock.now = day_window(SECOND).start + 1_234.0
    api = BentApi(honest)
    load_days(api.connect, lake, [SECOND], now=clock)
    assert [it["bucket_width"] for it in api.asked] == [["1m"]]


@pytest.mark.slow
def test_honest_days_cost_two_requests_more_for_sixty_of_them(lake: Lake) -> None:
    of = world(61, per_day=1)
    api = BentApi(of)
    load_days(api.connect, lake, days(61), now=of.clock)
    asked = [it["bucket_width"][0] for it in api.asked]
    assert (asked.count("1d"), asked.count("1h")) == (2, 2)
    assert exact(lake, of, days(61))


def test_what_is_landed_beside_usage_leaves_the_dispute_alone(honest: World, lake: Lake) -> None:
    load(BentApi(honest, minutes(without_a_user)), lake, honest)
    with closing(engine.connect()) as con:
        publish(con, lake, FIRST, {}, {"conversations": honest.clock()})
        rebuild_day(con, lake, FIRST)
    assert days_to_reload(lake, honest.clock()) == [FIRST]
