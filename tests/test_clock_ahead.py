"""A clock that is ahead makes no day final and loads none that has not begun."""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import date, timedelta
from email.utils import formatdate
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.api import Clock
from pipeline.emulator import ManualClock
from pipeline.lake import engine
from pipeline.lake.commit import Change, publish_days, withdraw_unbegun
from pipeline.lake.manifest import days_to_reload, manifest_of
from pipeline.lake.schemas import COVERAGE
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from pipeline.usage.load import LoadError, load_days
from pipeline.usage.refresh import refresh_days
from tests.bent import BentApi
from tests.ended import publishing_ends
from tests.lake.served import publish
from tests.torture.scenes import days, world

FIRST, SECOND, THIRD = days(3)
DAY = 86_400.0
NOW = day_window(SECOND).start + 20 * 3_600 + 30.0
"""The API's time: on the evening of the second day."""


@pytest.fixture
def api() -> BentApi:
    of = world(2, per_day=40)
    clock = of.clock
    assert isinstance(clock, ManualClock)
    clock.now = NOW
    api = BentApi(of)
    api.date = formatdate(NOW, usegmt=True)
    return api


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def statuses(lake: Lake, day: date) -> list[str]:
    path = lake.file(COVERAGE.name, day)
    assert path is not None
    rows = pq.read_table(path).to_pylist()
    return [row["status"] for row in rows if row["dataset"] == "usage_1d"]


def load(api: BentApi, lake: Lake, asked: list[date], ahead: float) -> None:
    def now() -> float:
        return NOW + ahead

    load_days(lambda: api.connect(now), lake, asked, now=now)


@pytest.mark.parametrize("ahead", [-365 * DAY, -3_600.0, 0.0, 30.0])
def test_a_clock_that_is_right_or_behind_is_believed(
    api: BentApi, lake: Lake, ahead: float
) -> None:
    if ahead < -DAY:
        with pytest.raises(ValueError, match="has no closed minute yet"):
            load(api, lake, [FIRST], ahead)
        return
    load(api, lake, [FIRST, SECOND], ahead)
    assert set(statuses(lake, FIRST)) == {"provisional"}
    assert manifest_of(lake.version(FIRST)).read_at["usage"] == NOW + ahead


@pytest.mark.parametrize("ahead", [90.0, 5 * 3_600.0, 4 * DAY, 3_650 * DAY])
def test_a_clock_that_is_ahead_makes_no_day_final(api: BentApi, lake: Lake, ahead: float) -> None:
    load(api, lake, [FIRST, SECOND], ahead)
    assert set(statuses(lake, FIRST)) == {"provisional"}
    assert statuses(lake, SECOND) == ["provisional"] * 20 + ["missing"] * 4
    loaded = lake.loaded("usage_1d", SECOND)
    assert loaded is not None
    assert loaded.window.end == NOW - 30
    assert manifest_of(lake.version(FIRST)).read_at["usage"] == pytest.approx(NOW)


def test_days_that_have_not_begun_fail_by_name_and_the_others_are_kept(
    api: BentApi, lake: Lake
) -> None:
    asked = [FIRST, SECOND, THIRD, THIRD + timedelta(days=1)]
    with pytest.raises(LoadError, match="has no closed minute yet by the API's clock") as failed:
        load(api, lake, asked, 4 * DAY)
    assert failed.value.missing == tuple(asked[2:])
    assert lake.all_days() == asked[:2]


def test_the_api_may_refuse_days_that_have_not_begun(api: BentApi, lake: Lake) -> None:
    def refuse(params: dict[str, list[str]], page: dict[str, object]) -> dict[str, object]:
        return {"error": "start_time is in the future"}

    api.bend = refuse  # of the first question, about the totals of days to come
    asked = [THIRD, THIRD + timedelta(days=1)]
    with pytest.raises(LoadError, match="s ahead of it"):
        load(api, lake, asked, 4 * DAY)
    assert lake.all_days() == []


def test_a_refresh_with_a_clock_that_is_ahead_confirms_nothing(api: BentApi, lake: Lake) -> None:
    load(api, lake, [FIRST, SECOND], 0.0)
    clock = Clock(lambda: NOW + 30 * DAY)
    refreshed = refresh_days(lambda: api.connect(clock), lake, now=clock)
    assert refreshed.changed == ()  # the second day is open: the trailing window's
    assert set(statuses(lake, FIRST)) == {"provisional"}


def test_a_moment_in_the_future_is_not_believed_later(api: BentApi, lake: Lake) -> None:
    """Without a Date nothing tells that the clock is ahead; later runs find what it has done."""
    api.date = None
    load(api, lake, [FIRST], 30 * DAY)
    assert set(statuses(lake, FIRST)) == {"final"}
    assert days_to_reload(lake, NOW) == [FIRST]
    assert refresh_days(api.connect, lake, now=lambda: NOW).changed == (FIRST,)
    assert set(statuses(lake, FIRST)) == {"provisional"}
    assert days_to_reload(lake, NOW) == []


def test_days_that_have_not_begun_are_withdrawn_unless_they_have_rows(lake: Lake) -> None:
    with closing(engine.connect()) as con:
        for day in days(3):
            publish(con, lake, [], day=day)
    assert withdraw_unbegun(lake, day_window(SECOND).start + 60.0) == [THIRD]
    assert lake.all_days() == [FIRST, SECOND]
    assert list(lake.root.rglob(f"*{THIRD}*")) == [lake.root / ".locks" / f"day-{THIRD}.lock"]
    assert withdraw_unbegun(lake, 0.0) == [FIRST, SECOND]
    load_days_again = world(1, per_day=5)
    load_days(BentApi(load_days_again).connect, lake, [FIRST], now=load_days_again.clock)
    assert withdraw_unbegun(lake, 0.0) == []
    assert lake.all_days() == [FIRST]


def test_a_day_is_withdrawn_though_the_commit_of_it_was_killed_before_its_link(lake: Lake) -> None:
    with closing(engine.connect()) as con:
        for day in (SECOND, THIRD):
            publish(con, lake, [], day=day)
        noted = {day: Change(owes={"observe"}) for day in (SECOND, THIRD)}
        with suppress(KeyboardInterrupt), publishing_ends(1):  # after what all of them count by
            publish_days(con, lake, noted)
    assert lake.commit.exists()
    assert withdraw_unbegun(lake, 0.0) == [SECOND, THIRD]
    assert lake.all_days() == []
