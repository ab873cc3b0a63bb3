"""Our days against the API's own totals: what is compared, and with how many requests."""

from datetime import date
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.emulator import Faults, ManualClock
from pipeline.lake.schemas import MEASURES
from pipeline.timeline import day_window
from pipeline.usage.totals_check import compare_days
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, Lab, small_world

FIRST, SECOND, THIRD = DAYS


def questions(lab: Lab) -> list[tuple[str, int, int]]:
    """Width, start and end of each request so far."""
    asked = [parse_qs(urlsplit(path).query) for _, path, _ in lab.server.requests]
    return [
        (one["bucket_width"][0], int(one["start_time"][0]), int(one["end_time"][0]))
        for one in asked
    ]


@pytest.mark.parametrize(
    ("days", "spans"),
    [
        ([], []),
        ([SECOND], [(SECOND, SECOND)]),
        (DAYS, [(FIRST, THIRD)]),
        ([FIRST, THIRD], [(FIRST, FIRST), (THIRD, THIRD)]),
        ([*DAYS, date(2024, 1, 4)], [(FIRST, THIRD)]),
    ],
    ids=["none", "a day", "a range", "a gap", "a day that is not loaded"],
)
def test_days_that_are_over_cost_two_requests_for_each_unbroken_run_of_them(
    loaded_lab: Lab, days: list[date], spans: list[tuple[date, date]]
) -> None:
    compared = compare_days(loaded_lab.services.connect, loaded_lab.lake, days)
    assert [one.day for one in compared] == [day for day in days if day in DAYS]
    assert all(one.agrees for one in compared)
    assert questions(loaded_lab) == [
        (width, day_window(first).start, day_window(last).end)
        for width in ("1d", "1h")
        for first, last in spans
    ]


def test_the_open_day_is_compared_over_its_closed_minutes_by_one_more_request(
    make_lab: MakeLab,
) -> None:
    midnight = day_window(THIRD).start
    clock = ManualClock(midnight + 20 * 3_600 + 30)
    lab = make_lab(small_world(clock), now=clock)
    assert lab.run(FIRST, THIRD, checks=False).success
    clock.advance(3_600)  # usage after the load is no disagreement
    lab.server.requests.clear()
    compared = compare_days(lab.services.connect, lab.lake, DAYS)
    assert [one.agrees for one in compared] == [True] * 3
    assert questions(lab) == [
        ("1d", day_window(FIRST).start, day_window(SECOND).end),
        ("1h", day_window(FIRST).start, day_window(SECOND).end),
        ("1m", midnight, midnight + 20 * 3_600),
    ]


@pytest.mark.parametrize(
    "faults",
    [
        Faults(duplicate_bucket=True, clamp_limit=1),
        Faults(duplicate_bucket=True, restate_between=True, clamp_limit=2),
        Faults(sparse=True),
        Faults(split_rows=True),
        Faults(extra_fields={"region": "eu"}),
    ],
    ids=["served twice", "restated between", "sparse", "split rows", "further fields"],
)
def test_totals_are_right_however_the_api_serves_them(loaded_lab: Lab, faults: Faults) -> None:
    loaded_lab.server.faults = faults
    compared = compare_days(loaded_lab.services.connect, loaded_lab.lake, DAYS)
    assert [one.agrees for one in compared] == [True] * 3
    for one in compared:
        (bucket,) = loaded_lab.server.world.usage(one.window.start, one.window.end)
        (truth,) = bucket["results"]
        assert one.api == {name: truth[name] for name in MEASURES}


def test_a_day_that_the_api_took_back_disagrees_with_zeros(loaded_lab: Lab) -> None:
    world = loaded_lab.server.world
    window = day_window(SECOND)
    for bucket in world.usage(window.start, window.end, "1m", ("user_id", "api_key_id")):
        for row in bucket["results"]:
            world.restate(bucket["start_time"], row["user_id"], row["api_key_id"], drop=True)
    compared = {
        one.day: one for one in compare_days(loaded_lab.services.connect, loaded_lab.lake, DAYS)
    }
    assert [day for day in DAYS if not compared[day].agrees] == [SECOND]
    assert compared[SECOND].api == {}
    assert compared[SECOND].ours != compared[SECOND].api


def test_hours_that_differ_disagree_though_the_day_does_not(loaded_lab: Lab) -> None:
    world, window = loaded_lab.server.world, day_window(SECOND)
    buckets = world.usage(window.start, window.end, "1h", ("user_id", "api_key_id"))
    of_hour = next(bucket for bucket in buckets if bucket["results"])
    row, start = of_hour["results"][0], of_hour["start_time"]
    minutes = world.usage(start, start + 3_600, "1m", ("user_id", "api_key_id"))
    minute = next(
        bucket["start_time"]
        for bucket in minutes
        for one in bucket["results"]
        if (one["user_id"], one["api_key_id"]) == (row["user_id"], row["api_key_id"])
        and one["num_operations"]
    )
    later = start + 3_600 if start + 3_600 < window.end else start - 3_600
    world.restate(minute, row["user_id"], row["api_key_id"], operations=-1)
    world.restate(later, row["user_id"], row["api_key_id"], operations=1)
    (compared,) = compare_days(loaded_lab.services.connect, loaded_lab.lake, [SECOND])
    assert compared.ours == compared.api
    assert sorted(compared.hours) == sorted([start, later])
    assert not compared.agrees
