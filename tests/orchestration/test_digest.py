"""The weekly digest in Dagster: when it is launched, what it sends, how it fails."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.orchestration.resources import Services
from pipeline.settings import load_settings
from pipeline.timeline import DAY
from tests.alerts.history import START, History
from tests.notify.receivers import hooks
from tests.orchestration.lab import QUIET

MONDAY = START + 14 * DAY


def launched(home: Path, **settings: Any) -> dg.RunRequest | str:
    """What a tick of the schedule asks for, or why it asks for nothing."""
    services = Services(load=lambda: load_settings(home=home, **settings))
    tick = datetime.fromtimestamp(MONDAY, UTC)
    with dg.build_schedule_context(
        scheduled_execution_time=tick, resources={"services": services}
    ) as context:
        data = build_defs(services).resolve_schedule_def("weekly_digest").evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


def ran(home: Path, **settings: Any) -> dg.ExecuteInProcessResult:
    """The job, as the schedule launches it."""
    services = Services(load=lambda: load_settings(home=home, **settings), now=lambda: MONDAY)
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_defs(services).resolve_job_def("digest_job")
        return job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)


def why(result: dg.ExecuteInProcessResult) -> str:
    """What the step that failed says."""
    (event,) = [one for one in result.all_events if one.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    return str(failure.description)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    history = History(days=14)
    history.daily(100)
    history.publish(tmp_path / "home", catalog=False)
    return tmp_path / "home"


def test_it_is_launched_where_a_channel_is_set_and_anything_is_loaded(home: Path) -> None:
    assert launched(home) == "no channel for messages is set: docs/messages.md has the settings"
    hook = "http://127.0.0.1:1/"
    assert isinstance(launched(home, slack_webhook=hook), dg.RunRequest)
    assert "nothing is loaded yet" in str(launched(home / "other", slack_webhook=hook))


@pytest.mark.slow
def test_it_sends_a_week_once_and_fails_where_a_channel_does(home: Path) -> None:
    with hooks((404, {}, b""), (200, {}, b"ok")) as server:
        failed = ran(home, slack_webhook=server.url)
        assert not failed.success
        assert "answered 404\nIt is kept, and sent by the next evaluation" in why(failed)
        assert ran(home, slack_webhook=server.url).success
        assert ran(home, slack_webhook=server.url).success
        assert len(server.posted) == 2
    assert b"Usage of 8 to 14 January 2024: 16,800 operations" in server.posted[1].body


def test_without_a_channel_it_fails_in_words(home: Path) -> None:
    assert why(ran(home)) == "no channel for messages is set: docs/messages.md has the settings"
