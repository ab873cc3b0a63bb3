"""Baselines after what happens to days: an outage, a restatement, totals that are in dispute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.alerts.alert import Alert
from pipeline.lake.store import Lake
from pipeline.timeline import DAY
from tests.alerts.history import FIRST, HOUR, START, History
from tests.alerts.test_evaluate import at
from tests.disputed import dispute

DAYS = 29
LAST = START + DAYS * DAY - HOUR
"""The last hour that is loaded."""
WEEK = range(15, 22)


def steady(spike: int = 0) -> History:
    """The same in every hour, but for the last one."""
    history = History(days=DAYS)
    history.daily(100)
    for hour in range(START, history.end, HOUR):
        history.use(hour, 100, items=50, conversations=50)
    if spike:
        history.use(LAST, spike, items=50, conversations=50)
    return history


def found(home: Path, alert: Alert) -> list[str]:
    """The subjects of what is found just after the last hour; what could not be judged is none."""
    looked = at(home, START + DAYS * DAY + 60.0)[alert]
    assert looked.broken is None
    assert looked.unjudged is None
    return [one.subject for one in looked.findings if "key" not in one.subject]


def left_out(days: Iterable[int]) -> Counter[int]:
    return Counter(dict.fromkeys(days, 1))


@pytest.mark.slow
@pytest.mark.parametrize("gap", [WEEK, range(27, 28), range(20, 28), range(8, 28, 2)])
def test_days_that_were_never_loaded_make_nothing_a_spike_and_hide_none(
    tmp_path: Path, gap: Iterable[int]
) -> None:
    for name, spike, expected in (("calm", 0, []), ("spike", 900, ["1h user 'u'"])):
        steady(spike).publish(tmp_path / name, left_out=left_out(gap))
        assert found(tmp_path / name, "spike") == expected
        assert found(tmp_path / name, "zero") == []


def test_the_words_count_the_days_that_are_loaded(tmp_path: Path) -> None:
    steady(900).publish(tmp_path, left_out=left_out(WEEK))
    looked = at(tmp_path, START + DAYS * DAY + 60.0)["spike"]
    # The spans end an hour before midnight: eight of the 28 have an hour of the week in them.
    assert "(9 of 10 of 20 days)" in looked.findings[0].what


def test_silence_after_an_outage_is_found(tmp_path: Path) -> None:
    history = steady()
    for hour in range(LAST - 5 * HOUR, LAST + HOUR, HOUR):
        del history.counts[hour, "u", "k"]
    history.publish(tmp_path, left_out=left_out(WEEK))
    assert set(found(tmp_path, "zero")) == {
        "num_conversations_created",
        "num_items_added",
        "num_operations",
    }


def test_a_spike_that_was_restated_is_gone_and_no_part_of_what_is_usual(tmp_path: Path) -> None:
    wrong = steady(9_000)
    for number in range(20, 28):
        wrong.use(START + number * DAY, 9_000)
    wrong.publish(tmp_path)
    assert found(tmp_path, "spike") == [], "nine days of ten had one"
    right = steady(9_000)
    right.publish(tmp_path)
    assert "1h user 'u'" in found(tmp_path, "spike")
    steady().publish(tmp_path)
    assert found(tmp_path, "spike") == []


def test_disputed_days_are_no_part_of_what_is_usual(tmp_path: Path) -> None:
    history = steady(900)
    for number in range(20, 28):
        history.use(START + number * DAY, 9_000)
    history.publish(tmp_path)
    assert found(tmp_path, "spike") == []
    for number in range(20, 28):
        dispute(Lake(tmp_path / "lake"), FIRST + timedelta(days=number))
    assert found(tmp_path, "spike") == ["1h user 'u'"]


def test_a_last_day_in_dispute_is_not_judged(tmp_path: Path) -> None:
    history = steady(9_000)
    for hour in range(LAST - 5 * HOUR, LAST, HOUR):
        del history.counts[hour, "u", "k"]
    history.publish(tmp_path)
    dispute(Lake(tmp_path / "lake"), FIRST + timedelta(days=DAYS - 1))
    assert found(tmp_path, "spike") == []
    assert found(tmp_path, "zero") == []


def test_where_too_little_is_left_it_is_said(tmp_path: Path) -> None:
    steady(9_000).publish(tmp_path, left_out=left_out(range(5, 28)))
    looked = at(tmp_path, START + DAYS * DAY + 60.0)
    for alert in ("spike", "zero"):
        assert str(looked[alert].unjudged).startswith("a baseline takes 7 days")
