"""A run of the hourly window, checks and all: a few requests, and the same tables."""

from datetime import date
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.emulator import ManualClock
from pipeline.orchestration.assets.days import loading, resume
from pipeline.timeline import day_window
from pipeline.usage.changed_hours import Reads
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, Lab, small_world
from tests.truth import published, reported

TODAY = date(2024, 1, 4)
WINDOW = [*DAYS, TODAY]


def widths(lab: Lab) -> list[str]:
    """Of each request so far, in the order of time."""
    return [parse_qs(urlsplit(path).query)["bucket_width"][0] for _, path, _ in lab.server.requests]


@pytest.mark.slow  # tests/usage has what a load alone asks for
def test_an_hour_later_a_run_takes_three_requests(make_lab: MakeLab) -> None:
    clock = ManualClock(day_window(TODAY).start + 10 * 3_600 + 330.0)
    lab = make_lab(small_world(clock), now=clock)
    world = lab.server.world
    assert lab.run(DAYS[0], TODAY, checks=False).success
    clock.advance(3_600.0)
    lab.server.requests.clear()
    ran = lab.run(DAYS[0], TODAY, reads="totals")
    assert ran.success
    assert ran.failed_checks == set()
    assert widths(lab) == ["1h", "1d", "1m"]  # hours by key, days, and the hour that was open
    for width in ("1m", "1h", "1d"):
        assert published(lab.lake, width, WINDOW) == reported(world, width, WINDOW)


def test_the_step_of_meters_is_configured_where_there_is_one(make_lab: MakeLab) -> None:
    assert set(loading("totals", make_lab().services)["ops"]) == {"load_usage"}


@pytest.mark.parametrize(
    ("missing", "reads", "command"),
    [
        ([DAYS[2], TODAY], "totals", "run"),
        ([DAYS[2], TODAY], "full", "run --start 2024-01-03 --end 2024-01-05"),
        ([DAYS[0]], "days", "run --start 2024-01-01 --end 2024-01-02"),
        ([date(2023, 12, 31)], "totals", "run --start 2023-12-31 --end 2024-01-01"),
    ],
)
def test_a_run_of_the_trailing_window_is_resumed_by_one(
    make_lab: MakeLab, missing: list[date], reads: Reads, command: str
) -> None:
    services = make_lab(now=lambda: day_window(TODAY).start + 36_000.0).services
    assert resume(services, missing, reads) == f"Resume with: mka1-usage {command}"
