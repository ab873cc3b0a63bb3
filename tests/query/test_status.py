"""What status says of each day, and what it tells to run."""

from __future__ import annotations

import io
from datetime import date, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.query.status import Days, State, print_status, states, what_to_run
from pipeline.timeline import DAY, Window, day_window
from tests.disputed import dispute
from tests.lake.served import plant

FIRST = date(2024, 2, 27)


def loaded(lake: Lake, day: date, read_at: float, minutes: int = 1_440) -> None:
    """A day that was read at a time, through a minute."""
    window = day_window(day)
    plant(
        lake,
        "usage_1d",
        [],
        day,
        window=Window(window.start, window.start + 60 * minutes),
        read_at=read_at,
    )


@pytest.mark.parametrize(
    ("minutes", "read_after", "now_after", "state"),
    [
        (1_440, 3.0, 3.5, "final"),
        (1_440, 3.0, 900.0, "final"),
        (1_440, 0.1, 2.0, "provisional"),
        (1_440, 0.1, 3.9, "provisional"),
        (1_440, 0.1, 4.1, "stale"),
        (600, -0.5, -0.4, "provisional"),
        (600, -0.5, 0.1, "stale"),
    ],
)
def test_a_day_is_what_was_read_of_it_and_when(
    tmp_path: Path, minutes: int, read_after: float, now_after: float, state: State
) -> None:
    """Times are days after the end of the day; the lookback is three."""
    lake = Lake(tmp_path, lookback_days=3)
    end = day_window(FIRST).end
    loaded(lake, FIRST, end + read_after * DAY, minutes)
    found = states(Snapshot(lake), FIRST, FIRST, end + now_after * DAY)
    assert found.states == {FIRST: state}
    assert found.complete_through == day_window(FIRST).start + 60 * minutes


def test_days_go_from_the_first_that_is_loaded_through_today(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    third = FIRST + timedelta(days=2)
    for day in (FIRST, third):
        loaded(lake, day, day_window(day).end + 30.0 * DAY)
    now = day_window(third).end + DAY + 1_000.0
    found = states(Snapshot(lake), None, None, now).states
    assert list(found.values()) == ["final", "missing", "final", "missing", "missing"]
    assert what_to_run(found) == [
        "To load what is stale or missing:",
        "  mka1-usage run --start 2024-02-28 --end 2024-02-29",
        "  mka1-usage run --start 2024-03-01 --end 2024-03-03",
    ]


def test_nothing_is_told_to_be_run_where_all_is_well() -> None:
    assert what_to_run({FIRST: "final", FIRST + timedelta(days=1): "provisional"}) == []


def shown(days: dict[date, State] | Days) -> list[str]:
    out = io.StringIO()
    known = days if isinstance(days, Days) else Days(days, None)
    print_status(known, Console(file=out, width=100))
    return out.getvalue().splitlines()


def test_the_calendar_has_a_line_a_month_and_a_sign_a_day() -> None:
    every: list[State] = ["final", "provisional", "stale", "missing"]
    days = {FIRST + timedelta(days=number): state for number, state in enumerate(every)}
    lines = shown(days)
    assert lines[0].split() == ["1", "6", "11", "16", "21", "26", "31"]
    assert lines[1] == "2024-02   " + " " * 26 + "#+!  "
    assert lines[2].rstrip() == "2024-03   ."
    for sign in "#+!.":
        assert any(line.strip().startswith(f"{sign}  1 ") for line in lines)


def test_months_without_any_day_are_folded() -> None:
    days: dict[date, State] = {FIRST: "final"}
    days |= {FIRST + timedelta(days=number): "missing" for number in range(1, 400)}
    lines = shown(days)
    assert "2024-03   nothing, through 2025-04" in lines
    assert not any(line.startswith("2024-07") for line in lines)


def test_complete_through_stops_at_the_first_hole_after_the_first_day(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for number in (0, 1, 3):
        loaded(lake, FIRST + timedelta(days=number), day_window(FIRST).end + 30.0 * DAY)
    found = states(Snapshot(lake), None, None, day_window(FIRST).end + 40.0 * DAY)
    assert found.complete_through == day_window(FIRST + timedelta(days=1)).end
    assert found.loaded_through == day_window(FIRST + timedelta(days=3)).end
    assert found.in_part == frozenset()


def test_a_day_that_is_loaded_in_part_is_a_hole_once_later_ones_are_loaded(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    later = FIRST + timedelta(days=1)
    loaded(lake, FIRST, day_window(FIRST).end + 30.0 * DAY, minutes=605)
    assert states(Snapshot(lake), None, None, day_window(later).end + 0.0).in_part == frozenset()
    loaded(lake, later, day_window(FIRST).end + 30.0 * DAY)
    found = states(Snapshot(lake), None, None, day_window(later).end + 0.0)
    assert found.complete_through == day_window(FIRST).start + 605 * 60
    assert found.loaded_through == day_window(later).end
    assert found.in_part == {FIRST}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_complete_through_stops_before_a_disputed_day(tmp_path: Path, number: int) -> None:
    lake = Lake(tmp_path)
    days = [FIRST + timedelta(days=it) for it in range(3)]
    for day in days:
        loaded(lake, day, day_window(day).end + 30.0 * DAY)
    dispute(lake, days[number])
    found = states(Snapshot(lake), None, None, day_window(days[2]).end + 40.0 * DAY)
    assert found.states[days[number]] == "disputed"
    assert found.complete_through == day_window(days[number]).start
    lines = shown(found)
    assert "  x  1 disputed: its totals differ from the API's own" in lines
    assert "To load what is stale, missing or disputed:" in lines
    assert any(f"--start {days[number]} " in line for line in lines)


def test_what_was_read_in_the_future_is_read_again_and_complete_for_nobody(tmp_path: Path) -> None:
    """A clock that was ahead has loaded days that have not begun, and called a day final."""
    lake = Lake(tmp_path)
    now = day_window(FIRST).end + 3_600.0
    for number in range(3):
        loaded(lake, FIRST + timedelta(days=number), now + 40 * DAY)
    shown = states(Snapshot(lake), None, None, now, clock=lambda: now)
    assert shown.states == {FIRST: "stale", FIRST + timedelta(days=1): "stale"}
    assert shown.complete_through == now + 60
    assert states(Snapshot(lake), None, None, now + 41 * DAY).states[FIRST] == "final"
