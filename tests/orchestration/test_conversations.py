"""Conversations in Dagster: what is materialized and shown, and what its check says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.lake.schemas import OBSERVED_DATASETS, RECONCILIATION, RECORD_DATASETS
from pipeline.orchestration.assets.conversations import STEP
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.schedules import CONVERSATIONS_JOB, conversations_schedule
from pipeline.timeline import day_window
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, QUIET, Lab, Ran

FIRST, SECOND, THIRD = DAYS
NAMES = [*RECORD_DATASETS, *OBSERVED_DATASETS, RECONCILIATION.name]
CHECK = "reconciliation.no_unexplained_differences"


def keys_of(lab: Lab) -> str:
    return ",".join(f"{key}={secret}" for key, secret in lab.server.api_keys.items())


@pytest.fixture
def talking(make_lab: MakeLab, loaded_lab: Lab) -> Lab:
    """The three days with usage loaded, and keys to list conversations with."""
    return make_lab(home=loaded_lab.settings.home, api_keys=keys_of(loaded_lab))


def sync(lab: Lab, days: Sequence[date] = DAYS, *, full: bool = False) -> Ran:
    job = build_defs(lab.services).resolve_job_def(CONVERSATIONS_JOB)
    result = job.execute_in_process(
        instance=lab.instance,
        tags=range_tags(days[0], days[-1]),
        raise_on_error=False,
        run_config={**QUIET, "ops": {STEP: {"config": {"full": full}}}},
    )
    return Ran(result, lab.instance)


def test_a_range_materializes_each_day_of_each_table_with_its_rows(talking: Lab) -> None:
    ran = sync(talking)
    assert ran.success, ran.failures
    shown = ran.materialized
    assert set(shown) == {(name, str(day)) for name in NAMES for day in DAYS}
    for (name, day), metadata in shown.items():
        loaded = talking.lake.loaded(name, date.fromisoformat(str(day)))
        assert metadata["dagster/row_count"].value == (loaded.rows if loaded else 0)
    classes = str(shown["reconciliation", str(FIRST)]["classes"].value)
    assert "num_conversations_created | match" in classes
    assert "usage without a key" in str(shown["items", str(FIRST)]["gaps"].value)
    assert ran.failed_checks == set()
    assert len(ran.checks) == 27


def test_an_unexplained_difference_warns_with_a_table_of_the_worst(talking: Lab) -> None:
    at = day_window(SECOND).start
    talking.server.world.restate(at, "user_0000", "key_web", conversations_created=7)
    assert talking.run(SECOND).success
    ran = sync(talking)
    assert ran.success, ran.failures
    found = ran.checks[CHECK]
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert "mka1-usage reconcile" in str(found.description)
    worst = found.metadata["worst"]
    assert isinstance(worst, dg.TableMetadataValue)
    first = worst.records[0].data
    assert (first["day"], first["user_id"], first["api_key_id"]) == (
        *(str(SECOND), "user_0000"),
        "key_web",
    )
    assert (first["class"], first["difference"]) == ("unexplained", 7)


def test_a_part_that_fails_fails_the_run_after_the_rest_is_recorded(
    make_lab: MakeLab, loaded_lab: Lab
) -> None:
    keys = keys_of(loaded_lab).replace("key_mobile=", "key_mobile=not-")
    lab = make_lab(home=loaded_lab.settings.home, api_keys=keys)
    ran = sync(lab)
    assert not ran.success
    assert "key key_mobile" in ran.failures[0]
    assert lab.partitions("items") == {str(day) for day in DAYS}


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "MKA1_API_KEYS is not set"), ({"api_keys": "k=x"}, "usage of 2024-01-01 is not loaded")],
)
def test_what_is_missing_is_said(make_lab: MakeLab, settings: dict[str, str], said: str) -> None:
    lab = make_lab(**settings)
    ran = sync(lab)
    assert not ran.success
    assert said in ran.failures[0]
    assert lab.server.requests == []


@pytest.mark.parametrize("hours", [0, 25])
def test_the_schedule_follows_the_days_that_are_loaded(talking: Lab, hours: int) -> None:
    tick = day_window(THIRD).end + 3_600 * hours + 1_500
    asked = evaluate(talking, tick)
    assert isinstance(asked, dg.RunRequest)
    assert range_tags(SECOND if hours else FIRST, THIRD).items() <= asked.tags.items()


@pytest.mark.parametrize(("hours", "first"), [(0, SECOND), (1, THIRD)])
def test_who_was_active_before_midnight_is_asked_for_after_it(
    make_lab: MakeLab, talking: Lab, hours: int, first: date
) -> None:
    """Where no day is looked back on, as usage of the last hour comes in after midnight, too."""
    lab = make_lab(home=talking.settings.home, api_keys=keys_of(talking), lookback_days=0)
    asked = evaluate(lab, day_window(THIRD).start + 3_600 * hours + 1_500)
    assert isinstance(asked, dg.RunRequest)
    assert range_tags(first, THIRD).items() <= asked.tags.items()


def test_the_schedule_skips_without_keys_and_without_usage(lab: Lab, talking: Lab) -> None:
    assert "MKA1_API_KEYS" in skipped(evaluate(lab, day_window(THIRD).end))
    assert "usage_job" in skipped(evaluate(talking, day_window(THIRD).end + 86_400 * 30))


def evaluate(lab: Lab, tick: float) -> dg.RunRequest | dg.SkipReason:
    with dg.build_schedule_context(
        instance=lab.instance,
        scheduled_execution_time=datetime.fromtimestamp(tick, UTC),
        resources={"services": lab.services},
    ) as context:
        answer = conversations_schedule.evaluate_tick(context)
    if answer.run_requests:
        return answer.run_requests[0]
    return dg.SkipReason(answer.skip_message)


def skipped(answer: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)
