"""Which models fail far more often than they usually do, and which do not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alerts.alert import Evaluation
from pipeline.alerts.failures import failures
from pipeline.timeline import DAY, Width
from tests.alerts.history import HOUR, START, thresholds
from tests.alerts.responses import Responses

LAST = START + 28 * DAY + 12 * HOUR
"""Noon of the 29th day: what is judged."""


def judged(
    responses: Responses, width: Width = "1h", start: int = LAST, **changed: float
) -> Evaluation:
    with responses.tables(width) as con:
        return failures(con, width, start, thresholds(**changed))


def in_office(failed: int = 5, model: str | None = "m") -> Responses:
    """A hundred responses an hour from 9 to 17 every day, of which some fail."""
    responses = Responses()
    responses.daily(100, failed, model=model)
    return responses


@pytest.mark.parametrize(
    ("usually", "failed", "found"),
    [
        (0, 19, False),  # below a share that ever alerts
        (0, 20, True),
        (5, 20, True),
        (10, 29, False),
        (10, 30, True),  # three times
        (40, 79, False),
        (40, 80, True),  # a third of the successes
        (100, 100, False),  # as always
    ],
)
def test_failures_are_so_many_times_the_usual_or_successes_that_part_of_it(
    usually: int, failed: int, found: bool
) -> None:
    responses = in_office(usually)
    responses.ask(LAST, 100, failed)
    assert bool(judged(responses).findings) == found


@pytest.mark.parametrize(("failed", "found"), [(9, False), (10, True)])
def test_a_handful_of_failures_never_alerts(failed: int, found: bool) -> None:
    responses = in_office(0)
    responses.ask(LAST, 10, failed)
    assert bool(judged(responses).findings) == found
    assert not judged(responses, alert_failed_responses=11).findings


def test_the_share_that_alerts_is_a_setting() -> None:
    responses = in_office(1)
    responses.ask(LAST, 100, 12)
    assert not judged(responses).findings
    assert judged(responses, alert_failed_percent=12).findings


def test_a_finding_says_what_since_when_and_what_is_usual() -> None:
    responses = in_office(2)
    responses.ask(LAST, 40, 31)
    (found,) = judged(responses).findings
    assert found.what == (
        "model m: 31 of 40 responses failed in the hour from 2024-01-29T12:00:00Z, 77.5%; usually "
        "2.0% (448 of 22,400 in 28 days)"
    )
    assert (found.severity, found.since, found.subject) == ("warning", LAST, "1h model 'm'")


def test_a_day_is_held_against_days() -> None:
    responses = in_office(2)
    for hour in range(9, 13):
        responses.ask(START + 28 * DAY + hour * HOUR, 100, 90)
    (found,) = judged(responses, "1d", START + 28 * DAY).findings
    assert found.what.startswith("model m: 368 of 800 responses failed on 2024-01-29, 46.0%;")


def test_a_new_model_is_held_against_all_of_them() -> None:
    responses = in_office(10)
    responses.ask(LAST, 100, 29, model="new")
    assert not judged(responses).findings
    responses.ask(LAST, 100, 30, model="new")
    (found,) = judged(responses).findings
    assert "; it is new, and all models have 10.0% (" in found.what


def test_a_model_without_a_name_is_judged_like_a_model() -> None:
    responses = in_office(2, model=None)
    responses.ask(LAST, 100, 60, model=None)
    (found,) = judged(responses).findings
    assert found.what.startswith("calls without a model: 60 of 100 responses failed")


@pytest.mark.parametrize(("days", "found"), [(6, False), (7, True)])
def test_a_baseline_takes_a_week_that_was_read(days: int, found: bool) -> None:
    responses = in_office(2)
    responses.unknown = set(range(START, LAST - days * DAY, HOUR))
    responses.ask(LAST, 100, 90)
    assert bool(judged(responses).findings) == found


def test_a_day_that_was_not_read_wholly_is_no_part_of_a_baseline() -> None:
    responses = in_office(0)
    for number in range(20):
        day = START + number * DAY
        responses.ask(day + 10 * HOUR, 1_000, 900)
        responses.unknown.add(day + 11 * HOUR)
    responses.ask(LAST, 100, 50)
    (found,) = judged(responses).findings
    assert found.what.endswith("usually 0.0% (0 of 7,200 in 9 days)")


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=28, max_size=28),
    st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_the_rule_is_the_sentence(before: list[tuple[int, int]], now: tuple[int, int]) -> None:
    """Against the sentence, reckoned in Python; pairs are failures and successes."""
    responses = Responses()
    for number, (failed, done) in enumerate([*before, now]):
        if failed + done:
            responses.ask(START + number * DAY + 12 * HOUR, failed + done, failed)
    failed, done = now
    usual_failed, usual_done = (sum(day[place] for day in before) for place in (0, 1))
    expected = False
    if failed >= 10 and 5 * failed >= failed + done and usual_failed + usual_done:
        share = Fraction(failed, failed + done)
        usual = Fraction(usual_failed, usual_failed + usual_done)
        expected = share > usual and (share >= 3 * usual or 3 * (1 - share) <= 1 - usual)
    assert bool(judged(responses).findings) == expected
