"""Tokens are judged as operations are, where responses are read, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from pipeline.alerts.alert import Alert, Evaluation
from pipeline.alerts.evaluate import evaluate
from pipeline.alerts.spikes import TOKENS, spikes
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.query import ad_hoc
from pipeline.timeline import DAY
from tests.alerts.history import HOUR, START, History, thresholds
from tests.alerts.responses import Responses

LAST = START + 28 * DAY + 12 * HOUR


SOON = START + 8 * DAY + 12 * HOUR
"""Noon of the ninth day: what is judged of a lake."""


def busy(last: int = LAST) -> Responses:
    """A million tokens an hour, and ten of them in the last one, of which many responses fail."""
    responses = Responses(days=(last - START) // DAY + 1)
    responses.daily(100, 1, 1_000_000)
    responses.ask(last, 100, 60, 10_000_000)
    return responses


def judged(responses: Responses, **changed: float) -> Evaluation:
    with responses.tables() as con:
        return spikes(con, "1h", LAST, thresholds(**changed), TOKENS)


def test_a_finding_says_how_many_tokens() -> None:
    found = judged(busy()).findings[0]
    assert found.what == (
        "user u: 10,000,000 tokens in the hour from 2024-01-29T12:00:00Z, 10.0 times its usual "
        "busiest hour of a day of 1,000,000 (9 of 10 of 28 days)"
    )
    assert (found.alert, found.severity) == ("tokens", "warning")


@pytest.mark.parametrize(("least", "found"), [(10_000_000, True), (10_000_001, False)])
def test_few_tokens_never_alert(least: int, found: bool) -> None:
    assert bool(judged(busy(), alert_spike_tokens=least).findings) == found


@pytest.mark.parametrize(
    ("unknown", "found"),
    [
        (range(28), []),  # nothing to hold it against: not a usual of 0
        (range(20), ["9 of 10 of 8 days"]),  # the others are its usual, and no day is quiet
        (range(22), []),  # too few others
    ],
)
def test_a_day_with_an_amount_that_is_not_known_is_no_part_of_what_is_usual(
    unknown: range, found: list[str]
) -> None:
    responses = busy()
    for number in unknown:
        responses.ask(START + number * DAY + 13 * HOUR, 1, tokens=None, model="unpriced")
    with responses.tables() as con:
        measure = replace(TOKENS, amount="total_tokens")
        looked = spikes(con, "1h", LAST, thresholds(), measure)
    said = [one.what for one in looked.findings if one.what.startswith("user")]
    assert [line.rpartition("(")[2].rstrip(")") for line in said] == found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Nine days of both, the last of which ends at five past one."""
    home = tmp_path_factory.mktemp("home")
    history = History(days=9)
    history.daily(100)
    lake = history.publish(home, through=SOON + HOUR + 300, catalog=False)
    busy(SOON).publish(lake, SOON + HOUR + 300)
    build_catalog(lake, home / "usage.duckdb")
    return lake


def at(lake: Lake, now: float) -> Mapping[Alert, Evaluation]:
    return evaluate(lake, thresholds(), now, ("tokens", "failures"))


def test_the_last_complete_hour_is_judged_and_each_query_has_an_answer(lake: Lake) -> None:
    found = at(lake, SOON + HOUR + 300.0)
    assert {name: [one.subject for one in of.findings] for name, of in found.items()} == {
        "tokens": ["1h user 'u'", "1h key 'k'"],
        "failures": ["1h model 'm'"],
    }
    for one in (*found["tokens"].findings, *found["failures"].findings):
        out = BytesIO()
        ad_hoc.export(lake.root.parent / "usage.duckdb", lake, one.query, "json", out)
        # There are no responses by themselves in this lake.
        assert bool(json.loads(out.getvalue())) == (one.alert == "tokens")
    assert not any(one.lines for one in at(lake, SOON + 300.0).values()), "an hour before"


def test_hours_that_were_not_read_are_not_judged_for_ever(tmp_path: Path) -> None:
    history = History(days=11)
    history.daily(100)
    lake = history.publish(tmp_path, catalog=False)
    busy(SOON).publish(lake, SOON + HOUR)
    for evaluation in at(lake, float(history.end)).values():
        assert not evaluation.lines
        assert evaluation.unjudged == "responses are read through 2024-01-09T13:00:00Z only"


def test_where_nobody_syncs_nothing_is_said(tmp_path: Path) -> None:
    history = History(days=9)
    history.daily(100)
    lake = history.publish(tmp_path, catalog=False)
    for evaluation in at(lake, float(history.end)).values():
        assert not evaluation.lines
        assert evaluation.unjudged is None
