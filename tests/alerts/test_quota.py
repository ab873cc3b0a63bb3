"""Our own requests against a quota that the API does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.alerts.finding import Looked
from pipeline.alerts.quota import spending
from pipeline.tally import Tallied
from pipeline.timeline import DAY
from tests.alerts.history import HOUR, START, thresholds

NOW = START + 13.5 * HOUR


def looked(*tallied: Tallied, **changed: float) -> Looked:
    return spending(tallied, Path("/data/requests"), NOW, thresholds(**changed))


def asked(requests: int, refused: int = 0, at: int = START, key: str = "web") -> Tallied:
    return Tallied(at, key, requests, refused)


@pytest.mark.parametrize(
    ("requests", "severity"),
    [(799, None), (800, "warning"), (999, "warning"), (1_000, "error"), (5_000, "error")],
)
def test_a_quota_is_close_to_spent_at_so_many_percent(requests: int, severity: str | None) -> None:
    found = looked(asked(requests), alert_requests_per_day=1_000)
    assert found.severity == severity


def test_a_finding_says_how_much_of_it_and_since_when() -> None:
    (found,) = looked(
        asked(1_000),
        asked(850, at=START + HOUR),
        asked(70, key="job"),
        alert_requests_per_day=2_000,
    ).findings
    assert found.what == (
        "key web: 1,850 requests of ours since 2024-01-01T00:00:00Z, 92 % of the 2,000 a day that "
        "it has"
    )


def test_requests_of_another_day_are_not_of_this_quota() -> None:
    others = asked(5_000, at=START - 1), asked(5_000, at=START + DAY)
    assert looked(*others, asked(1), alert_requests_per_day=1_000).findings == []


def test_without_the_setting_requests_alone_say_nothing() -> None:
    assert looked(asked(10_000_000)).findings == []


@pytest.mark.parametrize(
    ("requests", "refused", "found"),
    [(20, 9, False), (199, 10, True), (200, 10, False), (10, 10, True), (100_000, 400, False)],
)
def test_a_key_that_is_refused_again_and_again_is_out_of_quota(
    requests: int, refused: int, found: bool
) -> None:
    """The client takes a few in its stride: it goes slower."""
    assert bool(looked(asked(requests, refused)).findings) == found


def test_a_refusal_is_told_since_the_first() -> None:
    (found,) = looked(
        asked(50), asked(50, 20, START + 3 * HOUR), asked(50, 30, START + 5 * HOUR)
    ).findings
    assert found.what == (
        "key web: 50 of our 150 requests of today were answered 429, since 2024-01-01T03:00:00Z"
    )
    assert found.since == START + 3 * HOUR
