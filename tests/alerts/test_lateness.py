"""When the lake is behind, and which days were left out."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipeline.alerts.alert import Evaluation
from pipeline.alerts.lateness import late
from pipeline.query.status import Days, State
from pipeline.timeline import DAY, day_window
from tests.alerts.history import thresholds

TODAY = date(2024, 2, 29)
NOON = day_window(TODAY).start + DAY // 2


def looked(through: int, days: dict[date, State] | None = None, now: float = NOON) -> Evaluation:
    return late(Days(days or {}, through), now, thresholds())


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("minutes", "late_by"),
    [
        (0, None),
        (65, None),  # just before an hourly run ends
        (130, None),  # and once more, where one was missed
        (150, None),
        (151, "2 h 31 min"),
        (200, "3 h 20 min"),
        (60 * 30, "1 day 6 h"),
        (60 * 48, "2 days"),
        (-5, None),  # a clock that is behind
    ],
)
def test_data_is_late_when_the_hourly_schedule_would_have_brought_it(
    minutes: int, late_by: str | None
) -> None:
    found = looked(NOON - 60 * minutes).findings
    if late_by is None:
        assert found == []
    else:
        (finding,) = found
        assert f"only, {late_by} ago (2 h 30 min are allowed)" in finding.what
        assert (finding.severity, finding.since) == ("error", NOON - 60 * minutes)


def test_a_minute_that_is_still_open_is_not_late() -> None:
    assert looked(NOON - 120 * 60, now=NOON + 30 * 60 + 59.9).findings == []


def test_days_left_out_are_errors_and_days_to_be_confirmed_warnings() -> None:
    days: dict[date, State] = {ago(number): "final" for number in range(10)}
    days |= {ago(9): "missing", ago(8): "missing", ago(6): "missing", ago(5): "stale"}
    found = looked(NOON, days).findings
    assert [(one.severity, one.since) for one in found] == [
        ("error", day_window(ago(9)).start),
        ("warning", day_window(ago(5)).start),
    ]
    assert found[0].what == (
        "3 days are not loaded, though later ones are: 2024-02-20 to 2024-02-21, 2024-02-23"
    )
    assert found[1].what.startswith("1 day is stale: ")


def test_days_that_are_behind_are_told_of_once() -> None:
    """What is after the last complete minute is late, not left out."""
    days: dict[date, State] = {ago(2): "stale", ago(1): "missing", ago(0): "missing"}
    (found,) = looked(NOON - 2 * DAY, days).findings
    assert found.subject == "behind"


def test_a_gap_of_long_ago_is_no_news() -> None:
    days: dict[date, State] = {ago(32): "missing", ago(31): "missing"}
    (found,) = looked(NOON, days).findings
    assert found.what.endswith(": 2024-01-29")


def test_an_empty_lake_is_not_judged() -> None:
    empty = late(Days({}, None), NOON, thresholds())
    assert (empty.findings, empty.unjudged) == ((), "nothing is loaded")


def test_a_day_that_is_loaded_in_part_before_others_is_an_error() -> None:
    days: dict[date, State] = {ago(number): "final" for number in range(10)}
    days[ago(4)] = "stale"
    hole = day_window(ago(4)).start + 3_600
    (finding,) = late(Days(days, hole, NOON, frozenset({ago(4)})), NOON, thresholds()).findings
    assert finding.severity == "error"
    assert finding.what == "1 day is loaded in part, though later ones are loaded: 2024-02-25"


@pytest.mark.parametrize("number", [0, 4])
def test_a_disputed_day_is_an_error(number: int) -> None:
    days: dict[date, State] = {ago(it): "final" for it in range(10)}
    days[ago(number)] = "disputed"
    through = day_window(ago(number)).start
    (finding,) = late(Days(days, through, NOON), NOON, thresholds()).findings
    assert (finding.severity, finding.since) == ("error", through)
    assert "1 day is disputed: the totals differ from the API's own" in finding.what
    assert f"{ago(number)}" in finding.what


def test_late_data_with_a_hole_before_it_names_both() -> None:
    days: dict[date, State] = {ago(number): "final" for number in range(2, 10)}
    days |= {ago(5): "missing", ago(1): "missing", ago(0): "missing"}
    hole, end = day_window(ago(5)).start, day_window(ago(2)).end
    behind, missing = late(Days(days, hole, end), NOON, thresholds()).findings
    assert behind.what == (
        "usage is loaded through 2024-02-28T00:00:00Z only, 1 day 12 h ago (2 h 30 min are "
        "allowed), and complete through 2024-02-24T00:00:00Z only"
    )
    assert missing.what == "1 day is not loaded, though later ones are: 2024-02-24"
