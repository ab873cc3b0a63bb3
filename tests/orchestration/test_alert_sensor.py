"""The alerts in Dagster: checks started by hand, the sensor's ticks, the job that fails."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.lake.store import Lake
from pipeline.orchestration.alert_sensor import ALERT_CHECKS
from pipeline.orchestration.resources import Services
from pipeline.orchestration.schedules import JOB
from pipeline.settings import load_settings
from pipeline.timeline import DAY
from tests.alerts.history import HOUR, START, History
from tests.notify.receivers import hooks
from tests.orchestration.lab import QUIET, Lab, Ran
from tests.pricing import spent

NOW = START + 9 * DAY + HOUR + 60.0
NAMES = {
    "coverage.data_on_time",
    "usage_1h.usage_as_usual",
    "usage_1h.no_measure_at_zero",
    "tokens_1h.tokens_as_usual",
    "tokens_1h.costs_as_usual",
    "tokens_1h.failures_as_usual",
    "usage_1d.budgets_kept",
}


class Watched:
    """A home, its clock, and an instance that keeps what is told and the sensor's cursor."""

    def __init__(self, home: Path, instance: dg.DagsterInstance, **given: str) -> None:
        self.home = home
        self.now = NOW
        self.cursor: str | None = None
        self.said: str | None = None
        self._instance = instance
        settings = load_settings(home=home, **given)
        self._workspace = Services(load=lambda: settings, now=lambda: self.now)
        self._defs = build_defs(self._workspace)

    def lake(self, last_hour: int = 100, operations: int = 100) -> Lake:
        """Nine days, and of the tenth the first hour."""
        history = History(days=10)
        for hour in range(START, START + 9 * DAY, HOUR):
            history.use(hour, operations)
        history.use(START + 9 * DAY, last_hour)
        return history.publish(self.home, through=int(NOW), catalog=False)

    def check(self) -> dict[str, dg.AssetCheckEvaluation]:
        """The checks as started by hand."""
        job = dg.define_asset_job("by_hand", dg.AssetSelection.checks(*ALERT_CHECKS))
        defs = dg.Definitions.merge(self._defs, dg.Definitions(jobs=[job]))
        result = defs.resolve_job_def("by_hand").execute_in_process(
            instance=self._instance, run_config=QUIET
        )
        assert result.success, "they block nothing"
        return _by_name(result.get_asset_check_evaluations())

    def tick(self) -> dg.SensorResult:
        """A tick of the sensor, as the daemon would make it."""
        with dg.build_sensor_context(
            instance=self._instance,
            cursor=self.cursor,
            resources={"services": self._workspace},
        ) as context:
            data = self._defs.resolve_sensor_def("alerts").evaluate_tick(context)
        self.cursor = data.cursor
        self.said = data.skip_message
        return dg.SensorResult(
            run_requests=data.run_requests,
            asset_events=list(data.asset_events),
        )

    def run(self) -> dg.ExecuteInProcessResult:
        """What the sensor launches."""
        return self._defs.resolve_job_def("alerts_job").execute_in_process(
            instance=self._instance, run_config=QUIET, raise_on_error=False
        )


def _by_name(events: object) -> dict[str, dg.AssetCheckEvaluation]:
    assert isinstance(events, list)
    found: dict[str, dg.AssetCheckEvaluation] = {}
    for one in events:
        assert isinstance(one, dg.AssetCheckEvaluation)
        found[f"{one.asset_key.to_user_string()}.{one.check_name}"] = one
    return found


def failed(events: object) -> dict[str, dg.AssetCheckSeverity]:
    """Severity of those that did not pass."""
    return {name: one.severity for name, one in _by_name(events).items() if not one.passed}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(tmp_path / "home", instance)


def test_started_by_hand_all_pass_where_all_is_well(watched: Watched) -> None:
    watched.lake()
    checks = watched.check()
    assert set(checks) == NAMES
    assert all(one.passed for one in checks.values())


def test_a_check_that_finds_something_shows_the_message_and_blocks_nothing(
    watched: Watched,
) -> None:
    watched.lake(last_hour=900)
    found = watched.check()
    one = found["usage_1h.usage_as_usual"]
    assert (one.passed, one.severity, one.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert str(one.description).startswith("user u: 900 operations in the hour")
    assert str(one.description).endswith("(and 1 more)")
    assert len(str(one.metadata["found"].value).splitlines()) == 2
    assert failed(list(found.values())) == {"usage_1h.usage_as_usual": one.severity}


def test_what_could_not_be_judged_passes_and_says_so(watched: Watched) -> None:
    checks = watched.check()
    assert all(one.passed for one in checks.values())
    assert checks["usage_1h.usage_as_usual"].description == "nothing is loaded"


def test_a_lake_that_cannot_be_read_is_an_error_in_words(watched: Watched) -> None:
    path = watched.lake().files("usage_1h")[-1]
    path.chmod(0o600)
    path.write_bytes(b"no Parquet")
    checks = watched.check()
    assert failed(list(checks.values())) == dict.fromkeys(
        ("usage_1h.usage_as_usual", "usage_1h.no_measure_at_zero"), dg.AssetCheckSeverity.ERROR
    )
    assert "can't be looked for" in str(checks["usage_1h.usage_as_usual"].description)


def test_what_is_found_beside_damage_is_counted(watched: Watched) -> None:
    path = watched.lake(last_hour=900).files("usage_1h")[0]
    path.chmod(0o600)
    path.write_bytes(b"no Parquet")
    found = watched.check()["usage_1h.usage_as_usual"]
    user, key = str(found.metadata["found"].value).splitlines()[1:]
    assert user.startswith("user u: 900 operations")
    assert key.startswith("key k: 900 operations")
    assert str(found.description).endswith("(and 2 more)")


def test_the_first_tick_reports_every_check_and_the_next_none(watched: Watched) -> None:
    watched.lake()
    assert set(_by_name(watched.tick().asset_events)) == NAMES
    again = watched.tick()
    assert not again.asset_events
    assert not again.run_requests


def test_a_check_that_could_not_judge_is_reported_again_once_it_can(watched: Watched) -> None:
    first = _by_name(watched.tick().asset_events)["usage_1h.usage_as_usual"]
    assert first.description == "nothing is loaded"
    watched.lake()
    judged = _by_name(watched.tick().asset_events)["usage_1h.usage_as_usual"]
    assert (judged.passed, judged.description) == (True, None)
    assert not watched.tick().asset_events


def test_a_warning_is_told_once_without_a_run_and_so_is_its_end(watched: Watched) -> None:
    watched.lake()
    watched.tick()
    watched.lake(last_hour=900)
    tick = watched.tick()
    assert failed(tick.asset_events) == {"usage_1h.usage_as_usual": dg.AssetCheckSeverity.WARN}
    assert not tick.run_requests
    assert not watched.tick().asset_events
    watched.lake()
    (over,) = watched.tick().asset_events
    assert isinstance(over, dg.AssetCheckEvaluation)
    assert over.passed


def test_a_new_error_asks_for_a_run_that_fails_with_the_message(watched: Watched) -> None:
    watched.lake()
    watched.tick()
    watched.now += 3 * HOUR
    tick = watched.tick()
    assert failed(tick.asset_events) == {"coverage.data_on_time": dg.AssetCheckSeverity.ERROR}
    assert len(tick.run_requests or []) == 1
    ran = watched.run()
    assert not ran.success
    (failure,) = (one for one in ran.all_events if one.event_type_value == "STEP_FAILURE")
    said = str(failure.step_failure_data.user_failure_data)
    assert "usage is complete through 2024-01-10T01:01:00Z only, 3 h ago" in said
    assert "look further: mka1-usage sql" in said


def test_an_error_that_lasts_asks_for_one_run_alone(watched: Watched) -> None:
    watched.lake()
    watched.now += 3 * HOUR
    assert watched.tick().run_requests
    watched.now += HOUR
    again = watched.tick()
    assert not again.run_requests
    assert not again.asset_events


def test_data_that_comes_in_and_is_late_all_the_same_is_no_new_error(watched: Watched) -> None:
    watched.lake()
    watched.now += 3 * HOUR
    assert watched.tick().run_requests
    history = History(days=10)
    history.daily(100)
    history.publish(watched.home, through=int(NOW + HOUR), catalog=False)
    watched.now += HOUR
    later = watched.tick()
    said = str(_by_name(later.asset_events)["coverage.data_on_time"].description)
    assert said.startswith("usage is complete through 2024-01-10T02:01:00Z only, 3 h ago")
    assert not later.run_requests


def test_an_error_that_comes_back_at_another_time_is_a_new_one(watched: Watched) -> None:
    watched.lake()
    watched.now += 3 * HOUR
    (first,) = watched.tick().run_requests or []
    history = History(days=10)
    history.daily(100)
    history.publish(watched.home, through=int(NOW + 3 * HOUR))
    assert not watched.tick().run_requests
    watched.now += 3 * HOUR
    (second,) = watched.tick().run_requests or []
    assert first.run_key != second.run_key


def test_an_error_that_has_ended_and_comes_back_asks_for_another_run(watched: Watched) -> None:
    """Dagster launches no second run with a run key that it has seen."""
    path = watched.lake().files("usage_1h")[-1]
    path.chmod(0o600)
    whole = path.read_bytes()
    keys: list[str | None] = []
    for content in (b"no Parquet", whole, b"no Parquet"):
        path.write_bytes(content)
        keys += [one.run_key for one in watched.tick().run_requests or []]
        watched.now += 600
    first, second = keys
    assert first != second


def test_fewer_days_that_lack_are_reported_and_ask_for_no_other_run(watched: Watched) -> None:
    history = History(days=10)
    history.daily(100)
    history.publish(watched.home, int(NOW), Counter({3: 1, 4: 1, 5: 1}), catalog=False)
    assert watched.tick().run_requests
    history.publish(watched.home, int(NOW), Counter({4: 1, 5: 1}), catalog=False)
    fewer = watched.tick()
    said = str(_by_name(fewer.asset_events)["coverage.data_on_time"].description)
    assert said.startswith("2 days are not loaded, though later ones are: 2024-01-05 to 2024-01-06")
    assert not fewer.run_requests


def test_a_threshold_of_a_budget_is_told_once_a_period(watched: Watched) -> None:
    """Ten operations an hour: 80 % of the day's budget at ten o'clock, all of it at noon."""
    first = spent.START
    hours = [spent.Spent(first + hour * HOUR, operations=10) for hour in range(3 * 24)]
    spent.spend(watched.home, hours, days=3)
    (watched.home / "budgets.csv").write_text("scope,period,measure,amount\nall,day,operations,120")
    told: list[tuple[int, str, bool]] = []
    for hour in (0, 8, 9, 10, 11, 12, 23, 24, 33, 34, 35, 47):
        watched.now = first + hour * HOUR + 120.0
        tick = watched.tick()
        for name, one in _by_name(tick.asset_events).items():
            if name == "usage_1d.budgets_kept":
                what = "passes" if one.passed else str(one.severity.value).lower()
                told.append((hour, what, bool(tick.run_requests)))
    assert told == [
        *((0, "passes", False), (9, "warn", False), (11, "error", True)),
        *((24, "passes", False), (33, "warn", False), (35, "error", True)),
    ]


def test_what_could_not_be_looked_for_has_not_ended(watched: Watched) -> None:
    hours = [spent.Spent(spent.START + hour * HOUR, operations=10) for hour in range(12)]
    spent.spend(watched.home, hours, days=1)
    budgets = watched.home / "budgets.csv"
    told: list[tuple[dg.AssetCheckSeverity | None, bool]] = []
    for amount in ("100", "?", "100"):
        budgets.write_text(f"scope,period,measure,amount\nall,day,operations,{amount}")
        watched.now = spent.START + 12 * HOUR + 120.0
        tick = watched.tick()
        found = _by_name(tick.asset_events)["usage_1d.budgets_kept"]
        told.append((None if found.passed else found.severity, bool(tick.run_requests)))
    error = dg.AssetCheckSeverity.ERROR
    assert told == [(error, True), (error, True), (error, False)]


def test_a_run_that_finds_all_well_again_succeeds(watched: Watched) -> None:
    watched.lake()
    assert watched.run().success


def test_the_cursor_names_nobody(watched: Watched) -> None:
    watched.lake(last_hour=900)
    watched.tick()
    assert watched.cursor is not None
    assert "'u'" not in watched.cursor
    assert "user" not in watched.cursor


def test_the_sensor_is_off_at_first_and_looks_every_ten_minutes() -> None:
    sensor = build_defs().resolve_sensor_def("alerts")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert sensor.minimum_interval_seconds == 600


def test_a_load_of_days_of_the_past_is_not_judged_as_of_now(whole_run: tuple[Lab, Ran]) -> None:
    _, ran = whole_run
    assert ran.success
    assert not NAMES.intersection(ran.checks)
    job = build_defs().resolve_job_def(JOB)
    assert "check_alerts" not in {node.name for node in job.nodes}


def test_a_tick_sends_what_is_new_to_the_channels_that_are_set(tmp_path: Path) -> None:
    with (
        hooks((404, {}, b"no_service"), (200, {}, b"ok")) as server,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        secret = "planted-5ec2e7"
        watched = Watched(tmp_path / "home", instance, slack_webhook=f"{server.url}/{secret}")
        watched.lake(last_hour=900)
        watched.tick()
        assert f"slack: {server.url} answered 404: no_service" in str(watched.said)
        assert secret not in str(watched.said)
        watched.tick()
        watched.tick()
        assert len(server.posted) == 2
        assert "found, none of them a new error" in str(watched.said)
        assert json.loads(server.posted[1].body)["text"].startswith("2 warnings: user u: 900 ")
