"""Who is far above their own baseline, and who is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.alert import Evaluation, Finding
from pipeline.alerts.spikes import spikes
from pipeline.timeline import DAY, Width
from tests.alerts.history import HOUR, START, History, thresholds

LAST = START + 28 * DAY + 12 * HOUR
"""Noon of the 29th day: what is judged."""


def judged(
    history: History, width: Width = "1h", start: int = LAST, **changed: float
) -> Evaluation:
    with history.tables(width) as con:
        return spikes(con, width, start, thresholds(**changed))


def users(looked: Evaluation) -> list[str]:
    return [one.subject for one in looked.findings if " user " in one.subject]


def only(looked: Evaluation) -> Finding:
    """What is found of the user; the key has the same usage."""
    (found,) = (one for one in looked.findings if " user " in one.subject)
    return found


def in_office(operations: int = 100) -> History:
    """The same usage from 9 to 17 every day, none at night."""
    history = History()
    history.daily(operations, range(9, 17))
    return history


@pytest.mark.parametrize(
    ("operations", "found"), [(100, False), (299, False), (300, True), (5_000, True)]
)
def test_an_alert_is_so_many_times_the_usual_busiest_hour(operations: int, found: bool) -> None:
    history = in_office()
    history.use(LAST, operations)
    assert bool(judged(history).findings) == found


@pytest.mark.parametrize(("least", "found"), [(300, True), (301, False)])
def test_small_numbers_never_alert(least: int, found: bool) -> None:
    history = in_office(operations=1)
    history.use(LAST, 300)
    assert bool(judged(history, alert_spike_operations=least).findings) == found


def test_a_finding_says_who_how_much_since_when_and_against_what() -> None:
    history = in_office()
    history.use(LAST, 1_250)
    found = only(judged(history))
    assert found.what == (
        "user u: 1,250 operations in the hour from 2024-01-29T12:00:00Z, 12.5 times its usual "
        "busiest hour of a day of 100 (9 of 10 of 28 days)"
    )
    assert (found.severity, found.since) == ("warning", LAST)


def test_a_day_is_held_against_days() -> None:
    history = in_office()
    for hour in range(8):
        history.use(LAST - 12 * HOUR + hour * HOUR, 300)
    found = only(judged(history, "1d", LAST - 12 * HOUR))
    assert found.what == (
        "user u: 3,200 operations on 2024-01-29, 4.0 times its usual day of 800 "
        "(9 of 10 of 28 days)"
    )
    assert judged(history).findings == []


def test_a_key_is_judged_by_all_its_users_and_a_user_by_all_their_keys() -> None:
    history = in_office(60)
    history.daily(60, range(9, 17), user="v")
    history.daily(60, range(9, 17), key="l")
    for user, key in (("u", "k"), ("v", "k"), ("u", "l")):
        history.use(LAST, 180, user=user, key=key)
    assert [one.subject for one in judged(history).findings] == [
        "1h user 'u'",
        "1h key 'k'",
        "1h user 'v'",
        "1h key 'l'",
    ]


def test_calls_without_a_user_or_key_are_a_user_and_a_key() -> None:
    history = History()
    history.daily(100, user=None, key=None)
    history.use(LAST, 900, user=None, key=None)
    said = [one.what for one in judged(history).findings]
    assert [line.partition(":")[0] for line in said] == [
        "calls without a user",
        "calls without a key",
    ]
    assert all("9.0 times its usual" in line for line in said), "not newcomers"


@pytest.mark.parametrize(("bad_days", "found"), [(1, True), (2, True), (3, False)])
def test_a_day_or_two_of_a_former_spike_do_not_become_usual(bad_days: int, found: bool) -> None:
    history = in_office()
    for number in range(bad_days):
        history.use(START + (20 + number) * DAY + 10 * HOUR, 9_000)
    history.use(LAST, 1_000)
    assert bool(users(judged(history))) == found


def test_who_peaks_once_a_week_is_not_alerted_of_every_week() -> None:
    history = History()
    for week in range(5):
        history.use(START + 7 * week * DAY + 12 * HOUR, 2_000)
    assert judged(history).findings == []
    history.use(LAST, 6_000)
    assert users(judged(history)) == ["1h user 'u'"]


def test_days_without_usage_count_in_a_baseline() -> None:
    """A user of two days in four weeks has peaks on none of nine in ten days."""
    history = in_office()
    for number in (3, 9):
        history.use(START + number * DAY + HOUR, 5_000, user="rare")
    history.use(LAST, 5_000, user="rare")
    found = only(judged(history))
    assert found.what.endswith(
        "and it was seen on 2 of the 28 days before; no other user's usual busiest hour of a day "
        "is above 100"
    )


@pytest.mark.parametrize(("operations", "found"), [(100, False), (101, True)])
def test_a_newcomer_is_held_against_the_largest_of_the_others(operations: int, found: bool) -> None:
    history = in_office()
    history.use(LAST, operations, user="new", key="k")
    looked = judged(history)
    assert users(looked) == (["1h user 'new'"] if found else [])
    if found:
        assert "it was seen on none of the 28 days before" in only(looked).what


def test_a_key_that_takes_over_from_another_is_no_alert() -> None:
    history = in_office()
    del history.counts[LAST, "u", "k"]
    history.use(LAST, 100, key="its successor")
    assert judged(history).findings == []


@pytest.mark.parametrize("days", [1, 3, 6])
def test_who_began_this_week_has_no_usual_yet(days: int) -> None:
    history = in_office(1_000)
    for number in range(1, days + 1):
        history.use(LAST - number * DAY, 10 * number, user="new")
    history.use(LAST, 900, user="new")
    assert judged(history).findings == []


@pytest.mark.parametrize(("days", "found"), [(6, False), (7, True), (20, True)])
def test_a_baseline_takes_a_week_that_is_loaded(days: int, found: bool) -> None:
    history = History(days=days + 1)
    history.daily(100)
    start = START + days * DAY
    history.use(start, 9_000)
    assert bool(judged(history, start=start).findings) == found


def test_a_day_that_is_not_wholly_loaded_is_no_part_of_a_baseline() -> None:
    """Else the hours that are missing would count as quiet ones."""
    history = History()
    history.daily(100, [12])
    busy = [number for number in range(28) if number % 4]
    for number in busy:
        history.unknown.add(START + number * DAY + 13 * HOUR)
        history.use(START + number * DAY + 14 * HOUR, 400)
    history.use(LAST, 400)
    found = only(judged(history))
    assert found.what.endswith(
        "4.0 times its usual busiest hour of a day of 100 (9 of 10 of 7 days)"
    )


def test_a_longer_or_shorter_baseline_is_a_setting() -> None:
    history = in_office()
    history.daily(1_000, [10])
    for number in range(20, 28):
        history.use(START + number * DAY + 10 * HOUR, 100)
    history.use(LAST, 500)
    assert judged(history).findings == []
    assert users(judged(history, alert_baseline_days=7)) == ["1h user 'u'"]


def test_twenty_are_named_the_largest_first_and_the_others_counted() -> None:
    history = in_office()
    for number in range(30):
        history.use(LAST, 500 + number, user=f"new {number:02}", key="k")
    looked = judged(history)
    assert len(looked.findings) == 20
    said = [one.what.partition(" in the hour")[0] for one in looked.findings[:3]]
    assert said == [
        "key k: 15,535 operations",
        "user new 29: 529 operations",
        "user new 28: 528 operations",
    ]
    assert looked.more == 11


def test_usage_after_the_hour_that_is_judged_has_no_say() -> None:
    history = in_office()
    history.use(LAST, 1_000)
    once = judged(history)
    history.use(LAST + HOUR, 50_000)
    assert judged(history) == once


@given(
    st.lists(st.integers(0, 3_000), min_size=28, max_size=28),
    st.integers(0, 9_000),
    st.integers(7, 28),
)
def test_the_usual_is_what_nine_of_ten_days_stay_within(
    peaks: list[int], now: int, known_for: int
) -> None:
    """Against the sentence, reckoned in Python."""
    peaks = peaks[:known_for]
    peaks[0] = max(peaks[0], 1)  # first seen then
    history = History()
    history.daily(50, user="other", key=None)
    for number, peak in enumerate(peaks):
        day = START + (28 - known_for + number) * DAY
        history.use(day + 13 * HOUR, peak)
    history.use(LAST, now)
    largest = sorted(peaks, reverse=True)
    usual = largest[max(2, known_for // 10 + 1) - 1]
    expected = now >= 100 and (now >= 3 * usual if usual else now > 50)
    assert (users(judged(history)) == ["1h user 'u'"]) == expected
