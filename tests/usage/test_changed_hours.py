"""Hours whose totals by key have not changed are kept: what is asked for, found and proven."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pytest

from pipeline.emulator import World
from pipeline.endpoints import METERED
from pipeline.lake.manifest import (
    Reading,
    Source,
    days_to_reload,
    manifest_of,
    read_manifest,
    reading_of,
    write_manifest,
)
from pipeline.lake.schemas import METER_REVISIONS, REVISIONS, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_window
from pipeline.usage.changed_hours import Reads
from pipeline.usage.feed import CONVERSATIONS
from pipeline.usage.load import load_days
from pipeline.usage.meters import Metered
from tests.bent import BentApi, Page, Params
from tests.bounded import join
from tests.torture.scenes import exact, world
from tests.truth import digests
from tests.usage.test_meters import landed, metered
from tests.usage.traffic import (
    ASKED,
    FIRST,
    MOMENT,
    TODAY,
    Run,
    Traffic,
    at,
    copied,
    fresh,
    load,
    minutes_asked,
    of_day,
)


@pytest.fixture
def lake(tmp_path: Path, loaded_open: Lake) -> Lake:
    return copied(loaded_open, tmp_path / "lake")


@pytest.fixture
def of() -> World:
    return fresh()


# What is asked for


@pytest.mark.parametrize(
    ("hours", "parts"),
    [
        ([2, 3, 4, 9, 20], 3),
        pytest.param([], 0, marks=pytest.mark.slow),
        pytest.param([5], 1, marks=pytest.mark.slow),
        pytest.param([*range(0, 20, 2)], 10, marks=pytest.mark.slow),
    ],
    ids=["adjacent ones too", "none", "one", "ten"],
)
def test_each_hour_that_changed_takes_one_request_beside_three(
    lake: Lake, of: World, hours: Sequence[int], parts: int
) -> None:
    api = Traffic(at(MOMENT + 3_600, of)).api
    for hour in hours:
        of.restate(day_window(FIRST).start + hour * 3_600, "ada", "key_a", operations=7)
    load(api, lake, of, "totals")
    asked = [one["bucket_width"][0] for one in api.asked]
    assert asked == ["1h", "1d", *["1m"] * (parts + 1)]  # and the hour that was open
    assert minutes_asked(api) == len(hours) * 60 + 65
    before = digests(lake.root)
    load(api, lake, of, "full")
    assert digests(lake.root) == before


def test_a_day_in_its_first_hour_has_no_hour_to_compare(tmp_path: Path) -> None:
    of, lake = fresh(), Lake(tmp_path / "lake")
    api = BentApi(of)
    for minutes in (10, 20):
        load(api, lake, at(day_window(TODAY).start + 60.0 * minutes, of), "totals", [TODAY])
    assert [one["bucket_width"] for one in api.asked] == [["1m"]]
    assert minutes_asked(api) == 20


def between_users(of: World) -> None:
    of.restate(day_window(FIRST).start, "ada", "key_a", operations=-3)
    of.restate(day_window(FIRST).start, "bob", "key_a", operations=3)


def between_minutes(of: World) -> None:
    of.restate(day_window(FIRST).start, "ada", "key_a", operations=-3)
    of.restate(day_window(FIRST).start + 60, "ada", "key_a", operations=3)


def between_hours(of: World) -> None:
    of.restate(day_window(FIRST).start, "ada", "key_a", operations=-3)
    of.restate(day_window(FIRST).start + 3_600, "ada", "key_a", operations=3)


def between_keys(of: World) -> None:
    of.restate(day_window(FIRST).start, "ada", "key_a", operations=-3)
    of.restate(day_window(FIRST).start, "ada", "key_b", operations=3)


def both(of: World) -> None:
    """What shows that the day differs by user is not in the hour that differs by key."""
    between_users(of)
    of.restate(day_window(FIRST).start + 7_200, "ada", "key_a", operations=3)


def all_gone(of: World) -> None:
    window = day_window(FIRST)
    for bucket in of.usage(window.start, window.end, "1m", ("user_id", "api_key_id")):
        for row in bucket["results"]:
            of.restate(bucket["start_time"], row["user_id"], row["api_key_id"], drop=True)


@pytest.mark.parametrize(
    ("restate", "finds"),
    [
        (between_users, "days"),
        (between_minutes, "full"),
        (all_gone, "totals"),
        pytest.param(both, "days", marks=pytest.mark.slow),
        pytest.param(between_hours, "totals", marks=pytest.mark.slow),
        pytest.param(between_keys, "totals", marks=pytest.mark.slow),
    ],
)
def test_who_finds_what(tmp_path: Path, restate: Callable[[World], None], finds: Reads) -> None:
    of = world(1, per_day=9)
    of.restate(day_window(FIRST).start, "ada", "key_a", operations=3)
    api, lake = BentApi(of), Lake(tmp_path / "lake")
    load(api, lake, of, "full", [FIRST])
    restate(of)
    found = False
    for reads in ("totals", "days", "full"):
        load(api, lake, of, reads, [FIRST])
        found = found or reads == finds
        assert exact(lake, of, [FIRST]) == found, reads


@pytest.mark.parametrize(
    "field", ["region", pytest.param("num_items_added", marks=pytest.mark.slow)]
)
def test_further_fields_and_what_is_zero_and_not_null_are_found_by_reading_every_minute(
    tmp_path: Path, field: str
) -> None:
    of = world(1, per_day=9)
    of.restate(day_window(FIRST).start, "ada", "key_a", operations=3)  # and no items
    api, lake = Traffic(of).api, Lake(tmp_path / "lake")
    load(api, lake, of, "full", [FIRST])
    before = of_day(lake, "raw_usage", FIRST).drop(["fetched_at"])
    api.bend = lambda _, page: page
    if field == "region":
        api.bend = lambda _, page: {
            **page,
            "data": [
                {**it, "results": [{**row, "region": "us"} for row in it["results"]]}
                for it in page["data"]
            ],
        }
    found_by: dict[Reads, bool] = {"totals": False, "days": False, "full": True}
    for reads, found in found_by.items():
        load(api, lake, of, reads, [FIRST])
        now = of_day(lake, "raw_usage", FIRST).drop(["fetched_at"])
        assert now.equals(before) != found, reads


# What is proven


def statuses(lake: Lake, day: date) -> dict[str, tuple[set[str], set[float]]]:
    """By table of usage, the statuses of its hours, and when they were asked for."""
    found: dict[str, tuple[set[str], set[float]]] = {}
    for row in of_day(lake, "coverage", day).to_pylist():
        if row["dataset"] in USAGE_DATASETS:
            seen = found.setdefault(row["dataset"], (set(), set()))
            seen[0].add(row["status"])
            seen[1].add(row["fetched_at"].timestamp())
    return found


@pytest.mark.parametrize("restated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_totals_make_no_day_final_and_say_when_they_were_asked_for(
    lake: Lake, of: World, restated: bool
) -> None:
    later = MOMENT + 30.0 * DAY
    api = Traffic(at(later, of)).api
    start = day_window(FIRST).start + 7_200
    if restated:
        of.restate(start, "ada", "key_a", operations=5)
    load(api, lake, of, "totals", [FIRST])
    assert all(one == ({"provisional"}, {later}) for one in statuses(lake, FIRST).values())
    assert manifest_of(lake.version(FIRST)).read_at == {"usage": MOMENT, "totals": later}
    seen = {row["seen_at"].timestamp() for row in of_day(lake, "revisions", FIRST).to_pylist()}
    assert seen == ({later} if restated else set())
    load(api, lake, of, "days", [FIRST])
    assert all(one == ({"final"}, {later}) for one in statuses(lake, FIRST).values())
    assert minutes_asked(api) == 0


def damaged(lake: Lake) -> None:
    path = lake.path("usage_1m", FIRST)
    path.resolve().chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def noted(change: Callable[[dict[Source, float]], bool]) -> Callable[[Lake], None]:
    """Write down something else about the first day; whether it is disputed is what comes back."""

    def note(lake: Lake) -> None:
        version = lake.version(FIRST)
        assert version is not None
        record = read_manifest(version)
        read_at = dict(record.read_at)
        disputed = change(read_at)
        write_manifest(version, replace(record, read_at=read_at, disputed=disputed))

    return note


@pytest.mark.parametrize(
    "change",
    [
        damaged,
        *(
            pytest.param(noted(change), marks=pytest.mark.slow)
            for change in (
                lambda _: True,
                lambda read_at: bool(read_at.update(usage=MOMENT + 90.0 * DAY)),
                lambda read_at: bool(read_at.update(totals=MOMENT + 90.0 * DAY)),
            )
        ),
    ],
    ids=["damaged", "disputed", "read in the future", "compared in the future"],
)
def test_a_day_that_is_not_to_be_trusted_is_read_whole(
    lake: Lake, of: World, change: Callable[[Lake], None]
) -> None:
    change(lake)
    api = Traffic(of).api
    load(api, lake, of, "totals", [FIRST])
    assert minutes_asked(api) == 1_440
    assert days_to_reload(lake, of.clock()) == []
    load(api, lake, of, "totals", [FIRST])
    assert minutes_asked(api) == 0


def test_what_contradicts_the_totals_is_read_again_before_it_is_disputed(
    lake: Lake, of: World
) -> None:
    of.restate(day_window(FIRST).start + 7_200, "ada", "key_a", operations=5)
    wrong_once = {str(day_window(FIRST).start + 7_200)}

    def bend(params: Params, page: Page) -> Page:
        if params["bucket_width"] == ["1m"] and set(params["start_time"]) & wrong_once:
            wrong_once.clear()
            return {**page, "data": [{**it, "results": []} for it in page["data"]]}
        return honest(params, page)

    api = Traffic(of).api
    honest, api.bend = api.bend, bend
    load(api, lake, of, "totals")
    assert minutes_asked(api) == 60 + 1_440 + 5
    before = digests(lake.root)
    load(api, lake, of, "full")
    assert digests(lake.root) == before
    assert not manifest_of(lake.version(FIRST)).disputed


def test_minutes_that_were_kept_count_in_no_other_run(lake: Lake, of: World) -> None:
    """A run that is cut off leaves what it has asked for, not what it kept from the lake."""
    traffic = Traffic(of)
    of.restate(day_window(FIRST).start + 7_200, "ada", "key_a", operations=5)
    of.restate(day_window(FIRST).start + 18_000, "ada", "key_a", operations=5)
    traffic.run(lake, Run([], 60, "totals", 3))
    load(traffic.api, lake, at(MOMENT + 7_200, of), "full", [FIRST])
    assert minutes_asked(traffic.api) == 1_440 - 60
    assert manifest_of(lake.version(FIRST)).read_at == {"usage": MOMENT + 3_600}


@pytest.mark.slow
def test_two_runs_at_once_end_in_the_same_tables(lake: Lake, of: World) -> None:
    at(MOMENT + 3_600, of)
    of.restate(day_window(FIRST).start + 7_200, "ada", "key_a", operations=5)
    runs = [
        threading.Thread(target=load, args=(BentApi(of), lake, of, reads))
        for reads in ("totals", "full", "days", "totals")
    ]
    for run in runs:
        run.start()
    for run in runs:
        join(run)
    load(BentApi(of), lake, of, "full")
    assert exact(lake, of, ASKED)


@pytest.mark.parametrize("reads", ["full", pytest.param("totals", marks=pytest.mark.slow)])
def test_what_another_run_has_loaded_since_this_one_began_is_not_taken_back(
    of: World, tmp_path: Path, reads: Reads
) -> None:
    api, lake = BentApi(of), Lake(tmp_path / "lake")
    load(api, lake, of, "full")
    before = reading_of(lake.version(TODAY))
    moments = iter([MOMENT - 5_400])  # it began then, and waited
    load_days(api.connect, lake, ASKED, reads=reads, now=lambda: next(moments, MOMENT + 300))
    after = reading_of(lake.version(TODAY))
    assert before is not None
    assert after is not None
    assert (after.through, after.disputed) == (before.through, False)
    assert exact(lake, at(MOMENT, of), ASKED)


def test_a_record_of_before_says_nothing_of_totals(tmp_path: Path) -> None:
    written = asdict(Reading(1.0, 60))
    del written["totals_at"]
    assert Reading(**written).seen_at == 1.0
    assert Reading(1.0, 60, totals_at=9.0).seen_at == 9.0


# Other endpoints


def test_an_endpoint_of_meters_is_read_where_its_totals_changed_and_others_keep_theirs(
    tmp_path: Path,
) -> None:
    of, lake = metered(), Lake(tmp_path / "lake")
    api = BentApi(of)
    feeds = [Metered(METERED[name]) for name in ("responses", "files")]

    def load_meters(reads: Reads, place: Lake) -> None:
        for feed in feeds:
            load_days(api.connect, place, [FIRST], feed=feed, reads=reads, now=of.clock)

    load_meters("full", lake)
    at(of.clock() + 60.0, of)
    event = next(one for one in of.meter_events("responses"))
    of.restate_meter(
        "responses", event.at, event.user_id, event.api_key_id, event.model, num_model_requests=2
    )
    other = copied(lake, tmp_path / "other")
    api.asked.clear()
    load_meters("totals", lake)
    assert minutes_asked(api) == 60
    assert len(api.asked) == 5
    load_meters("full", other)
    for width in ("1m", "1h", "1d"):
        assert landed(lake, width, [FIRST]) == landed(other, width, [FIRST])
    for name in ("meters_1m", "meters_1h", "meters_1d", "meter_revisions"):
        assert lake.path(name, FIRST).read_bytes() == other.path(name, FIRST).read_bytes()


def test_minutes_that_a_clock_behind_takes_back_are_no_restatement(tmp_path: Path) -> None:
    """Of usage, and of the other endpoints."""
    of, meters, lake = fresh(), metered(), Lake(tmp_path / "lake")
    for hours in (10, 5, 10):
        for world_, feed in ((of, CONVERSATIONS), (meters, Metered(METERED["files"]))):
            at(day_window(FIRST).start + hours * 3_600.0 + 330, world_)
            load_days(BentApi(world_).connect, lake, [FIRST], feed=feed, now=world_.clock)
        counted = manifest_of(lake.version(FIRST)).files
        assert all(counted[name].rows for name in ("usage_1m", "meters_1m"))
        assert [counted[name].rows for name in (REVISIONS.name, METER_REVISIONS.name)] == [0, 0]
