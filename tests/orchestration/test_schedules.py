"""What each schedule asks for, at which moment."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import dagster as dg
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.definitions import build_defs
from pipeline.orchestration.assets.usage import API_POOL
from pipeline.orchestration.partitions import PARTITION, days_of
from pipeline.orchestration.resources import Services
from pipeline.orchestration.schedules import JOB
from pipeline.settings import load_settings
from tests.orchestration.lab import Lab

HOURLY, DAILY = "hourly_trailing_window", "daily_long_window"


@cache
def schedule_named(name: str) -> dg.ScheduleDefinition:
    return build_defs().resolve_schedule_def(name)


def evaluated(name: str, tick: datetime, **settings: Any) -> dg.RunRequest | str:
    """The one run that the schedule requests at `tick`, or why it requests none."""
    services = Services(load=lambda: load_settings(**settings))
    with dg.build_schedule_context(
        scheduled_execution_time=tick, resources={"services": services}
    ) as context:
        data = schedule_named(name).evaluate_tick(context)
    if not data.run_requests:
        assert data.skip_message is not None
        return data.skip_message
    (request,) = data.run_requests
    return request


def asked_days(name: str, tick: datetime, **settings: Any) -> list[date]:
    request = evaluated(name, tick, **settings)
    assert isinstance(request, dg.RunRequest)
    return days_of(request.tags)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "tick", "settings", "first", "last"),
    [
        (HOURLY, "2024-05-10T13:05", {}, "2024-05-07", "2024-05-10"),
        (HOURLY, "2024-05-10T00:05", {}, "2024-05-07", "2024-05-10"),
        (HOURLY, "2024-05-10T23:05", {}, "2024-05-07", "2024-05-10"),
        # At midnight sharp the new day has no closed minute: the last day is the one that ended.
        (HOURLY, "2024-05-10T00:00", {}, "2024-05-06", "2024-05-09"),
        (HOURLY, "2024-05-10T00:01", {}, "2024-05-07", "2024-05-10"),
        (HOURLY, "2024-03-01T13:05", {"lookback_days": 1}, "2024-02-29", "2024-03-01"),
        # No day looked back on: today alone, and yesterday once more for its last open hour.
        (HOURLY, "2024-05-10T13:05", {"lookback_days": 0}, "2024-05-10", "2024-05-10"),
        (HOURLY, "2024-05-10T00:05", {"lookback_days": 0}, "2024-05-09", "2024-05-10"),
        (HOURLY, "2024-05-10T01:05", {"lookback_days": 0}, "2024-05-10", "2024-05-10"),
        (DAILY, "2024-05-10T02:35", {}, "2024-04-09", "2024-05-10"),
        (DAILY, "2024-05-10T02:35", {"daily_lookback_days": 7}, "2024-05-03", "2024-05-10"),
        (DAILY, "2024-05-10T02:35", {"daily_lookback_days": 0}, "2024-05-09", "2024-05-10"),
        # The days on which clocks change are days like any other.
        (HOURLY, "2024-03-31T02:05", {}, "2024-03-28", "2024-03-31"),
        (HOURLY, "2024-10-27T01:05", {}, "2024-10-24", "2024-10-27"),
        # Nothing before the first partition is asked for.
        (HOURLY, "2024-01-02T13:05", {}, "2024-01-01", "2024-01-02"),
        (
            DAILY,
            "2024-05-10T02:35",
            {"first_day": date(2024, 5, 10)},
            "2024-05-10",
            "2024-05-10",
        ),
    ],
)
def test_a_tick_asks_for_its_trailing_window(
    name: str, tick: str, settings: dict[str, Any], first: str, last: str
) -> None:
    days = asked_days(name, at(tick), **settings)
    assert (str(days[0]), str(days[-1])) == (first, last)


@hypothesis.settings(max_examples=12)  # a schedule's context takes long to make
@given(
    st.datetimes(datetime(2024, 2, 1), datetime(2024, 12, 1)),  # noqa: DTZ001  # made aware below
    st.integers(0, 5),
)
def test_every_minute_is_asked_for_after_it_has_closed(moment: datetime, lookback: int) -> None:
    tick = moment.replace(minute=5, second=0, microsecond=0, tzinfo=UTC) + timedelta(hours=1)
    still_open_before = tick - timedelta(hours=1)
    days = asked_days(HOURLY, tick, lookback_days=lookback)
    assert still_open_before.date() in days
    assert (tick - timedelta(minutes=1)).date() in days


def test_a_first_day_that_has_not_come_is_a_reason_to_skip() -> None:
    said = evaluated(HOURLY, at("2024-05-10T13:05"), first_day=date(2024, 5, 11))
    assert isinstance(said, str)
    assert "MKA1_USAGE_FIRST_DAY (2024-05-11)" in said


def test_a_tick_has_one_run_key_and_another_tick_another() -> None:
    keys: list[str | None] = []
    for tick in ("2024-05-10T13:05", "2024-05-10T13:05", "2024-05-10T14:05"):
        request = evaluated(HOURLY, at(tick))
        assert isinstance(request, dg.RunRequest)
        keys.append(request.run_key)
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("name", "cron"), [(HOURLY, "5 * * * *"), (DAILY, "35 2 * * *")])
def test_schedules_run_on_utc_and_are_off_at_first(name: str, cron: str) -> None:
    schedule = schedule_named(name)
    assert (schedule.cron_schedule, schedule.execution_timezone) == (cron, "UTC")
    assert schedule.job_name == JOB
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_a_requested_run_loads_the_window_as_a_single_run(lab: Lab) -> None:
    request = evaluated(HOURLY, at("2024-01-03T23:05"), lookback_days=2)
    assert isinstance(request, dg.RunRequest)
    assert PARTITION not in request.tags
    assert lab.run_tagged(request.tags).success
    assert lab.partitions("usage_1d") == {"2024-01-01", "2024-01-02", "2024-01-03"}


def test_every_step_that_asks_the_api_is_in_the_pool_that_limits_them() -> None:
    pools = {node.name: node.definition.pools for node in build_defs().resolve_job_def(JOB).nodes}
    assert pools == {
        "load_usage": {API_POOL},
        "check_tables": set(),
        "usage_1d_totals_equal_the_api": {API_POOL},
    }
