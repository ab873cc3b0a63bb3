"""When zero is an alert, and when it is a quiet hour, a weekend, or nothing known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.alert import Evaluation
from pipeline.alerts.silence import silent
from pipeline.timeline import DAY
from tests.alerts.history import HOUR, START, History, thresholds

NOON = START + 28 * DAY + 12 * HOUR


def judged(history: History, through: int = NOON, **changed: float) -> Evaluation:
    with history.tables() as con:
        return silent(con, through, thresholds(**changed))


def running(operations: int = 100) -> History:
    """All three measures in every hour of four weeks, nothing after them."""
    history = History()
    for hour in range(START, START + 28 * DAY, HOUR):
        history.use(hour, operations, items=2 * operations, conversations=operations)
    return history


def fill(history: History, start: int, end: int, operations: int = 100) -> None:
    for hour in range(start, end, HOUR):
        history.use(hour, operations, items=2 * operations, conversations=operations)


def measures(looked: Evaluation) -> list[str]:
    return [one.subject for one in looked.findings]


ALL = ["num_conversations_created", "num_items_added", "num_operations"]


@pytest.mark.parametrize("hours", [0, 1, 3, 6, 12])
def test_an_outage_is_found_in_its_first_hour_and_in_every_other(hours: int) -> None:
    history = running()
    fill(history, START + 28 * DAY, NOON - hours * HOUR)
    found = judged(history)
    assert measures(found) == (ALL if hours else [])
    assert {one.since for one in found.findings} == ({NOON - hours * HOUR} if hours else set())


def test_a_finding_says_what_since_when_and_what_is_usual() -> None:
    history = running()
    fill(history, START + 28 * DAY, NOON - 3 * HOUR)
    found = judged(history).findings[2]
    assert found.what == (
        "no operations since 2024-01-29T09:00:00Z, in 3 h that are loaded; the same 3 hours "
        "usually have at least 300 (28 days compared)"
    )
    assert found.severity == "error"


def test_one_measure_may_fall_silent_alone() -> None:
    history = running()
    for hour in range(START + 28 * DAY, NOON, HOUR):
        history.use(hour, 100, items=0, conversations=7)
    assert measures(judged(history)) == ["num_items_added"]


@pytest.mark.parametrize(("operations", "found"), [(99, False), (100, True)])
def test_hours_that_usually_have_little_may_have_none(operations: int, found: bool) -> None:
    history = running(operations)
    fill(history, START + 28 * DAY, NOON - HOUR)
    assert ("num_operations" in measures(judged(history))) == found


def test_a_small_platform_is_alerted_once_its_silence_has_lasted() -> None:
    history = running(30)
    fill(history, START + 28 * DAY, NOON - 5 * HOUR)
    found = [
        through
        for through in range(NOON - 4 * HOUR, NOON + HOUR, HOUR)
        if "num_operations" in measures(judged(history, through))
    ]
    assert found[0] == NOON - HOUR


def test_nights_and_weekends_without_usage_are_none_of_it() -> None:
    """Offices: 2024-01-01 is a Monday, so the 29th is one."""
    history = History(days=36)
    for number in range(36):
        if number % 7 < 5:
            fill(history, START + number * DAY + 9 * HOUR, START + number * DAY + 17 * HOUR)
    usual = thresholds()
    with history.tables() as con:
        for day in range(START + 21 * DAY, START + 36 * DAY, 2 * DAY):  # each weekday
            for through in range(day, day + DAY, HOUR):
                assert not silent(con, through, usual).findings


def test_an_office_that_is_silent_on_a_monday_is_found_by_other_mondays() -> None:
    history = History()
    for number in range(28):
        if number % 7 < 5:
            fill(history, START + number * DAY + 9 * HOUR, START + number * DAY + 17 * HOUR)
    assert measures(judged(history)) == ALL


@pytest.mark.parametrize(("outages", "found"), [(0, True), (1, True), (2, True), (8, False)])
def test_former_outages_do_not_make_silence_usual(outages: int, found: bool) -> None:
    history = running()
    for number in range(outages):
        day = START + (1 + 3 * number) * DAY
        for hour in range(day, day + DAY, HOUR):
            del history.counts[hour, "u", "k"]
    assert bool(judged(history).findings) == found


@pytest.mark.parametrize(("days", "found"), [([0], True), ([0, 8], True), ([0, 8, 16], False)])
def test_nine_of_ten_days_have_to_have_had_usage(days: list[int], found: bool) -> None:
    """Day 0 is of the weekday that is judged, so that the other weeks do not speak for it."""
    history = running()
    for number in days:
        del history.counts[START + number * DAY + 11 * HOUR, "u", "k"]
    fill(history, START + 28 * DAY, NOON - HOUR)
    assert bool(judged(history).findings) == found


def test_days_of_which_these_hours_are_loaded_in_part_are_no_part_of_a_baseline() -> None:
    history = running(50)
    fill(history, START + 28 * DAY, NOON - 3 * HOUR)
    for number in (0, 8, 16):
        at = START + number * DAY
        history.unknown |= {at + 10 * HOUR, at + 11 * HOUR}
    found = [one.what for one in judged(history).findings if one.subject == "num_operations"]
    assert [line.partition("; ")[2] for line in found] == [
        "the same 3 hours usually have at least 150 (25 days compared)"
    ]


@pytest.mark.parametrize("days", [1, 2, 5])
def test_a_silence_of_days_goes_on_being_told(days: int) -> None:
    history = running()
    for hour in range(START + (28 - days) * DAY, START + 28 * DAY, HOUR):
        del history.counts[hour, "u", "k"]
    found = judged(history)
    assert measures(found) == ALL
    assert {one.since for one in found.findings} == {START + (28 - days) * DAY}


def test_an_hour_that_is_not_loaded_is_unknown_not_zero() -> None:
    history = running()
    fill(history, START + 28 * DAY, NOON - 3 * HOUR)
    history.unknown = {NOON - HOUR}
    assert not judged(history).findings
    history.unknown = {NOON - 2 * HOUR}
    assert {one.since for one in judged(history).findings} == {NOON - HOUR}


def test_a_measure_that_is_reported_as_unknown_is_not_zero() -> None:
    history = running()
    for hour in range(START + 28 * DAY, NOON, HOUR):
        history.use(hour, None, items=None, conversations=0)
    assert measures(judged(history)) == ["num_conversations_created"]


def test_a_negative_count_or_rows_of_zeros_are_what_they_are() -> None:
    history = running()
    for hour in range(START + 28 * DAY, NOON, HOUR):
        history.use(hour, 0, items=-1, conversations=0)
    assert measures(judged(history)) == ["num_conversations_created", "num_operations"]


@pytest.mark.parametrize(("days", "found"), [(6, False), (7, True)])
def test_a_baseline_takes_a_week(days: int, found: bool) -> None:
    history = running()
    history.unknown = set(range(START, START + (28 - days) * DAY, HOUR))
    through = START + 28 * DAY + HOUR
    assert bool(judged(history, through).findings) == found


def test_a_platform_that_never_was_used_is_not_silent() -> None:
    assert not judged(History()).findings


@given(st.lists(st.integers(0, 60), min_size=28, max_size=28), st.integers(1, 60))
def test_silence_of_an_hour_is_unusual_on_nine_of_ten_days_or_on_each_such_weekday(
    before: list[int], least: int
) -> None:
    """Against the sentence, reckoned in Python."""
    history = History()
    for number, operations in enumerate(before):
        history.use(START + number * DAY + 11 * HOUR, operations)
    history.use(NOON - 2 * HOUR, 1)  # so that the silence lasts one hour
    every_day = sorted(before)[2]
    every_week = min(before[number] for number in (0, 7, 14, 21))
    expected = every_day >= least or every_week >= least
    found = "num_operations" in measures(judged(history, alert_zero_usual=least))
    assert found == expected
