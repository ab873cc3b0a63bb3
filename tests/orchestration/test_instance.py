"""The Dagster home: made once, usable, and the user's own from then on."""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from pipeline.orchestration import instance
from pipeline.settings import SettingsError


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")


@pytest.mark.parametrize("workers", [1, 6])
def test_the_folder_is_made_and_dagster_pointed_at_it(tmp_path: Path, workers: int) -> None:
    home = tmp_path / "a" / "b"
    instance.prepare(home, workers)
    assert os.environ["DAGSTER_HOME"] == str(home)
    with dg.DagsterInstance.get() as dagster:
        assert dagster.root_directory == str(home)
        assert not dagster.telemetry_enabled
        limits = dagster.get_concurrency_config()
        assert limits.run_queue_config is not None
        assert limits.run_queue_config.max_concurrent_runs == workers + 3
        assert limits.pool_config.default_pool_limit == workers
        granularity = limits.pool_config.pool_granularity
        assert granularity is not None
        assert granularity.value == "run"
        assert not dagster.nux_enabled


def test_a_dagster_yaml_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    instance.prepare(tmp_path)
    instance.prepare(tmp_path)
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry:\n  enabled: false\n"


def test_a_run_whose_code_server_is_gone_is_failed_and_no_other(tmp_path: Path) -> None:
    """It would keep its turn for ever, and every later run would wait for it."""
    instance.prepare(tmp_path)
    alive = tempfile.mktemp(prefix="mka1-usage-")  # short enough for a socket
    tags = {
        "gone": {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": f"{alive}-"})},
        "alive": {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": alive})},
        "elsewhere": {".dagster/grpc_info": json.dumps({"host": "code", "port": 4000})},
        "in a command": {},
    }
    runs = {
        name: dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.STARTED, tags=given)
        for name, given in tags.items()
    }
    with closing(socket.socket(socket.AF_UNIX)) as server, instance.opened(tmp_path) as dagster:
        server.bind(alive)
        server.listen()
        for run in runs.values():
            dagster.add_run(run)
        assert instance.fail_lost_runs(tmp_path) == 1
        assert instance.fail_lost_runs(tmp_path) == 0
        failed = dagster.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert [run.run_id for run in failed] == [runs["gone"].run_id]
    Path(alive).unlink()


def test_a_run_of_a_service_that_another_user_may_not_ask_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.prepare(tmp_path)
    monkeypatch.setattr(socket.socket, "connect_ex", lambda _, __: errno.EACCES)
    tags = {".dagster/grpc_info": json.dumps({"socket": "/run/mka1-usage/code.sock"})}
    with instance.opened(tmp_path) as dagster:
        dagster.add_run(dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.STARTED, tags=tags))
    assert instance.fail_lost_runs(tmp_path) == 0


@pytest.mark.parametrize("name", ["per%20cent", "qu?st", "st*r", "br[ack]et", "new\nline", "a#b"])
def test_a_home_is_opened_by_its_own_configuration_whatever_it_is_called(
    tmp_path: Path, name: str
) -> None:
    home = tmp_path / name
    instance.prepare(home)
    with instance.opened(home) as dagster:
        assert not dagster.telemetry_enabled
        assert dagster.get_runs() == []
    assert (home / "history" / "runs.db").is_file()
    assert list(tmp_path.iterdir()) == [home]


def test_a_temporary_folder_that_will_not_do_either_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "per%20cent"
    instance.prepare(home)
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    with pytest.raises(SettingsError, match="TMPDIR holds '%'"), instance.opened(home):
        pass


@pytest.mark.parametrize("below", [".", "runs"])
def test_a_folder_that_cannot_be_is_named_with_what_to_set(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / below
    with pytest.raises(OSError, match="MKA1_USAGE_HOME") as refusal:
        instance.prepare(home)
    assert refusal.value.filename == str(home)
    assert os.environ["DAGSTER_HOME"] == ""
