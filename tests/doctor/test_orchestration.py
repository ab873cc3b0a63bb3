"""What Dagster lacks to run schedules in turns is named, and nothing is made by looking."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from pipeline.orchestration import instance
from tests.doctor.conftest import Look, told

SCHEDULE = "hourly_trailing_window"


@pytest.fixture
def folder(tmp_path: Path, place: pytest.MonkeyPatch) -> Path:
    """A Dagster home as the first run makes it, and no run yet."""
    folder = tmp_path / "home" / "dagster"
    instance.prepare(folder)
    place.setenv("DAGSTER_HOME", "")  # below the home folder, where it is looked for
    return folder


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Dagster makes of such a home when it opens it. Tests copy it."""
    folder = tmp_path_factory.mktemp("databases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")  # `prepare` sets it
        instance.prepare(folder)
    with dg.DagsterInstance.from_config(str(folder)):
        return folder


@pytest.fixture
def opened(folder: Path, databases: Path) -> Iterator[dg.DagsterInstance]:
    shutil.copytree(databases, folder, dirs_exist_ok=True)
    with dg.DagsterInstance.from_config(str(folder)) as opened:
        yield opened


def switch_on(opened: dg.DagsterInstance) -> InstigatorState:
    """The schedule, as the page switches it on."""
    location = RegisteredCodeLocationOrigin("mka1_usage")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), SCHEDULE)
    data = ScheduleInstigatorData("5 * * * *", time.time())
    state = InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, data)
    return opened.add_instigator_state(state)


def beat(opened: dg.DagsterInstance, at: float) -> None:
    opened.add_daemon_heartbeat(DaemonHeartbeat(at, "SCHEDULER", None, []))


def test_a_home_without_dagster_is_no_failure(look: Look, tmp_path: Path) -> None:
    (found,) = look("dagster")
    assert found.state == "skipped"
    assert not (tmp_path / "home").exists()


def test_a_home_without_a_run_is_not_made_one_by_looking(look: Look, folder: Path) -> None:
    (found,) = look("dagster")
    assert (found.state, found.subject) == ("ok", "dagster")
    assert [path.name for path in folder.iterdir()] == ["dagster.yaml"]


def test_schedules_that_are_off_are_a_warning(look: Look, opened: dg.DagsterInstance) -> None:
    found = look("dagster")
    assert [(one.state, one.subject) for one in found] == [
        ("ok", "dagster"),
        ("ok", "pool"),
        ("warning", "schedules"),
        ("skipped", "daemon"),
    ]
    assert SCHEDULE in found[2].fix


@pytest.mark.parametrize(
    ("ago", "state", "words"),
    [(None, "failed", "none has ever run"), (4_000, "failed", "last alive"), (5, "ok", "alive")],
)
def test_a_schedule_that_is_on_needs_a_daemon_that_is_alive(
    ago: float | None, state: str, words: str, look: Look, opened: dg.DagsterInstance
) -> None:
    switch_on(opened)
    if ago is not None:
        beat(opened, time.time() - ago)
    found = look("dagster", now=time.time)
    assert [(one.state, one.subject) for one in found[2:]] == [
        ("ok", "schedules"),
        (state, "daemon"),
    ]
    assert found[2].found == f"on: {SCHEDULE}; 3 off"
    assert words in found[3].found
    assert ("dagster-daemon run" in found[3].fix) is (state == "failed")


def test_a_tick_that_failed_is_told(look: Look, opened: dg.DagsterInstance) -> None:
    state = switch_on(opened)
    beat(opened, time.time())
    opened.create_tick(
        TickData(
            state.instigator_origin_id,
            SCHEDULE,
            InstigatorType.SCHEDULE,
            TickStatus.FAILURE,
            timestamp=1_704_067_500.0,
            error=SerializableErrorInfo("no code location", [], None),
            selector_id=state.selector_id,
        )
    )
    found = look("dagster", now=time.time)
    assert f"{SCHEDULE} failed to start a run at 2024-01-01T00:05:00Z" in told(found)


LIMITS = [
    ("granularity: run\n    default_limit: 1", "1", "ok", "take turns"),
    ("granularity: op\n    default_limit: 1", "1", "warning", "by step"),
    ("granularity: run", "1", "warning", "without a limit"),
    ("granularity: run\n    default_limit: 3", "1", "warning", "3 at a time"),
    ("granularity: run\n    default_limit: 3", "3", "ok", "3 at a time, as MKA1_USAGE_WORKERS"),
    ("granularity: run\n    default_limit: 1", "3", "warning", "MKA1_USAGE_WORKERS is 3"),
    ("granularity: op\n    default_limit: 3", "3", "warning", "by step"),
]


@pytest.mark.parametrize(("config", "workers", "state", "words"), LIMITS)
def test_more_runs_at_a_time_than_share_the_quota_are_a_warning(
    config: str,
    workers: str,
    state: str,
    words: str,
    look: Look,
    folder: Path,
    place: pytest.MonkeyPatch,
    opened: dg.DagsterInstance,
) -> None:
    place.setenv("MKA1_USAGE_WORKERS", workers)
    (folder / "dagster.yaml").write_text(f"concurrency:\n  pools:\n    {config}\n")
    (found,) = (one for one in look("dagster") if one.subject == "pool")
    assert found.state == state
    assert words in found.found


def test_a_limit_of_the_pool_itself_counts_before_the_default(
    look: Look, folder: Path, opened: dg.DagsterInstance
) -> None:
    opened.event_log_storage.set_concurrency_slots("mka1_usage_api", 2)
    assert "2 at a time" in told(look("dagster"))


POSTGRES = "storage:\n  postgres:\n    postgres_db:\n      scheme: postgresql+psycopg2\n"
PLACE = "      hostname: 127.0.0.1\n      port: {port}\n      db_name: d\n      username: u\n"
BROKEN = [
    ("telemetry: [", "is no YAML"),
    ("- telemetry", "is no mapping"),
    ("nonsense: 1", 'Received unexpected config entry "nonsense" at the root.'),
    (POSTGRES + PLACE + "      password: {{env: NO_SUCH}}", '"NO_SUCH"'),
    (POSTGRES + PLACE + "      password: hush-hush", "Connection refused"),
    ("run_storage: {{module: no_such_storage, class: Storage}}", "no_such_storage"),
]


@pytest.mark.parametrize(("config", "words"), BROKEN)
def test_a_dagster_yaml_that_does_not_open_is_told_why(
    config: str, words: str, look: Look, folder: Path, unused_port: int
) -> None:
    (folder / "dagster.yaml").write_text(config.format(port=unused_port))
    (folder / "history").mkdir()
    found = look("dagster")
    assert [one.state for one in found] == ["failed"]
    assert words in found[0].found
    assert "hush" not in found[0].found
    assert "\n" not in found[0].found
