"""All alerts over a lake: which hours they judge, and that their queries lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path

import duckdb
import pytest

from pipeline.alerts.alert import Alert, Evaluation, Finding
from pipeline.alerts.evaluate import evaluate
from pipeline.lake.macros import MACROS
from pipeline.lake.store import Lake
from pipeline.query import ad_hoc
from pipeline.thresholds import LEAST_DAYS
from pipeline.timeline import DAY
from tests.alerts.history import HOUR, START, History, thresholds
from tests.bounded import finished

NOW = START + 29 * DAY + 13 * HOUR + 5 * 60.0
LAST = START + 29 * DAY + 12 * HOUR
"""The last complete hour."""
ODD = 'it\'s "$HOME"\n漢'


def busy() -> History:
    """A month of one user, then a spike of theirs, and of one whose id is hard to quote."""
    history = History(days=30)
    for hour in range(START, LAST + HOUR, HOUR):
        history.use(hour, 100, items=0, conversations=50)
        history.use(hour, 100, user=ODD, key=None)
    for user, key in (("u", "k"), (ODD, None)):
        history.use(LAST, 900, user=user, key=key, conversations=50)
    return history


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Loaded up to five past one, as an hourly run leaves it."""
    home = tmp_path_factory.mktemp("home")
    busy().publish(home, through=int(NOW))
    return home


def at(home: Path, now: float = NOW, **changed: float) -> Mapping[Alert, Evaluation]:
    return evaluate(Lake(home / "lake"), thresholds(**changed), now)


def test_the_last_complete_hour_and_day_are_judged(home: Path) -> None:
    found = at(home)
    assert [one.subject for one in found["spike"].findings] == [
        f"1h user {ODD!r}",
        "1h user 'u'",
        "1h key None",
        "1h key 'k'",
    ]
    assert {one.since for one in found["spike"].findings} == {LAST}
    assert found["late"].severity is found["zero"].severity is None


def test_as_of_an_earlier_time_nothing_later_has_a_say(home: Path) -> None:
    assert not at(home, NOW - HOUR)["spike"].findings


def test_a_day_is_judged_once_it_is_over(tmp_path: Path) -> None:
    history = busy()
    for hour in range(LAST - 12 * HOUR, LAST + 12 * HOUR, HOUR):
        history.use(hour, 400)
    history.publish(tmp_path)
    today = [one for one in at(tmp_path)["spike"].findings if " 2024-01-30," in one.what]
    assert not today
    after = at(tmp_path, NOW + 12 * HOUR)["spike"].findings
    assert {one.what.partition(",")[0] for one in after if "on 2024-01-30" in one.what} == {
        "user u: 9",
        "key k: 9",
    }


def test_a_day_that_is_not_loaded_is_neither_zero_nor_quiet(tmp_path: Path) -> None:
    history = History(days=30)
    history.daily(100)
    for hour in range(LAST, history.end, HOUR):
        del history.counts[hour, "u", "k"]
    history.publish(tmp_path, through=LAST, left_out=Counter({28: 1}))
    found = at(tmp_path, LAST + 60.0)
    assert not found["zero"].findings
    assert [one.subject for one in found["late"].findings] == ["missing 2024-01-29"]


def test_every_query_runs_and_has_an_answer(tmp_path: Path) -> None:
    history = busy()
    for hour in range(LAST - 3 * HOUR, LAST + HOUR, HOUR):
        history.use(hour, 900)
    history.use(LAST, 900, user=ODD, key=None)
    history.publish(tmp_path, through=int(NOW), left_out=Counter({20: 1}))
    found = at(tmp_path, NOW + DAY)
    findings = [finding for looked in found.values() for finding in looked.findings]
    assert {finding.alert for finding in findings} == {"late", "spike", "zero"}
    for finding in findings:
        (*_, query) = shlex.split(finding.command)
        out = BytesIO()
        ad_hoc.export(tmp_path / "usage.duckdb", Lake(tmp_path / "lake"), query, "json", out)
        assert json.loads(out.getvalue()), finding.line


def test_a_line_can_be_pasted_into_a_shell(home: Path, tmp_path: Path) -> None:
    (line,) = (one.line for one in at(home)["spike"].findings if one.subject == f"1h user {ODD!r}")
    command = line.partition("look further: mka1-usage ")[2]
    done = finished(
        ["bash", "-c", f"{Path(sys.executable).parent / 'mka1-usage'} {command}"],
        env={"MKA1_USAGE_HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
    )
    assert "900" in done.stdout


def operations(finding: Finding) -> int:
    """The number that a finding of a spike names."""
    (said,) = re.findall(r": ([0-9,]+) operations in the hour", finding.what)
    return int(said.replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "parameters"),
    [
        ({}, "hours := 14, least_days := 7"),
        ({"alert_spike_times": 1.2}, "times := 1.2, hours := 14, least_days := 7"),
        ({"alert_spike_operations": 3_000}, "at_least := 3000, hours := 14, least_days := 7"),
        ({"alert_baseline_days": 7}, "days := 7, hours := 14, least_days := 7"),
    ],
)
def test_the_macro_of_that_name_says_of_each_hour_what_the_alert_says_of_it(
    tmp_path: Path, changed: Mapping[str, float], parameters: str
) -> None:
    history = busy()
    for number, hour in enumerate(range(LAST - 13 * HOUR, LAST + HOUR, HOUR)):
        history.use(hour, 150 * number, user=None)
        history.use(hour, 2_000 * (number % 3), user=f"new {number % 5}", key="k")
    for number in (3, 9, 24):
        history.use(START + number * DAY + 5 * HOUR, 2_500, user="new 1")
    history.publish(tmp_path, through=int(NOW), left_out=Counter({20: 1}))
    alerted = {
        (one.subject.removeprefix("1h user "), one.since, operations(one))
        for hours in range(14)
        for one in at(tmp_path, NOW - hours * HOUR, **changed)["spike"].findings
        if one.subject.startswith("1h user ")
    }
    with closing(duckdb.connect(str(tmp_path / "usage.duckdb"), read_only=True)) as con:
        query = f"select user_id, epoch(start_time), num_operations from spikes({parameters})"
        listed = {(repr(user), *rest) for user, *rest in con.sql(query).fetchall()}
    assert alerted == listed
    assert len({since for _, since, _ in listed}) > 2


def test_the_macro_has_the_alerts_defaults_and_looks_back_for_a_week() -> None:
    (macro,) = (macro for macro in MACROS if macro.name == "spikes")
    usual = thresholds()
    assert {name: float(value) for name, value in macro.parameters.items()} == {
        "times": usual.spike_times,
        "days": usual.baseline_days,
        "at_least": usual.spike_operations,
        "hours": 168,
        "least_days": 5,
    }
    assert f"least_days := {LEAST_DAYS}" in macro.description


def test_too_short_a_past_is_said_not_judged(tmp_path: Path) -> None:
    history = History(days=7)
    history.daily(100)
    history.publish(tmp_path)
    found = at(tmp_path, history.end + 60.0)
    for alert in ("spike", "zero"):
        assert str(found[alert].unjudged).startswith("a baseline takes 7 days")


def test_an_empty_home_is_not_judged(tmp_path: Path) -> None:
    found = at(tmp_path)
    for alert in ("late", "spike", "zero"):
        assert found[alert].unjudged == "nothing is loaded"


@pytest.mark.parametrize(
    ("damaged", "broken"),
    [
        ("usage_1h", {"spike", "zero"}),
        ("usage_1d", {"spike"}),
        ("coverage", {"late", "spike", "zero"}),
    ],
)
def test_a_file_that_cannot_be_read_breaks_what_needs_it_and_nothing_else(
    tmp_path: Path, damaged: str, broken: set[Alert]
) -> None:
    history = History(days=9)
    history.daily(100)
    lake = history.publish(tmp_path)
    path = next(iter(lake.files(damaged)))
    path.chmod(0o600)
    path.write_bytes(b"not a Parquet file")
    found = at(tmp_path, history.end + 60.0)
    assert {alert for alert, looked in found.items() if looked.broken} == broken
    assert all(found[alert].severity == "error" for alert in broken)
