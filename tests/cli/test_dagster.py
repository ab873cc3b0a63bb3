"""`mka1-usage dagster`: one command to a page on which everything works, and back to nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Final

import httpx
import pytest

from pipeline.cli.dagster_dev import environment_of, first_day, first_to_load
from pipeline.cli.tour import demo_settings
from pipeline.emulator import EmulatorServer, World
from pipeline.lake.store import Lake
from pipeline.orchestration.dev import alone
from pipeline.timeline import closed_through, day_of
from tests.bounded import read_until, started
from tests.documented import blocks
from tests.fixtures_local import clean_environment, command
from tests.lake.served import plant

ROOT: Final = Path(__file__).parents[2]
BOUND: Final = 180.0
"""Seconds for Dagster's own start and end, and for a run, on a busy machine too."""
DAY: Final = date(2026, 3, 9)
WHERE: Final = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "mka1_usage",
}


@pytest.fixture(autouse=True)
def _environment_of_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_API_KEY": "planted-real-key"})


# Before anything is started


def test_a_port_that_is_taken_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = command(["dagster", "--demo", "--port", str(port)])
    assert ended.code == 1
    assert re.fullmatch(rf"mka1-usage: error: port {port} .*--port.*\n", ended.err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "folder"), [([], "data/dagster"), (["--demo"], "data/demo-dagster/dagster")]
)
def test_a_home_is_shown_once_at_a_time_or_each_schedule_would_run_twice(
    args: list[str], folder: str, tmp_path: Path
) -> None:
    with alone(tmp_path / folder):
        ended = command(["dagster", *args, "--port", "0"])
    assert ended.code == 1
    assert re.fullmatch(rf"mka1-usage: error: another .* shows \S*{folder} already.*\n", ended.err)
    assert not list(tmp_path.rglob("dagster.yaml")), "nothing was begun"
    with alone(tmp_path / folder):
        pass  # once it has ended, the next may


def test_the_demo_begins_a_week_before_its_first_start_and_goes_on_with_these_days(
    tmp_path: Path,
) -> None:
    for later in (0, 1, 20):
        assert first_day(tmp_path, DAY + timedelta(days=later)) == DAY - timedelta(days=7)


@pytest.mark.parametrize(
    ("usage", "conversations", "begins"),
    [(0, 0, 0), (3, 0, 0), (8, 0, 0), (8, 2, 1), (5, 5, 4), (8, 8, 7)],
    ids=["nothing", "usage of some", "usage", "some listings", "a while ago", "all"],
)
def test_a_demo_that_was_ended_while_it_loaded_goes_on_where_a_day_lacks_something(
    usage: int, conversations: int, begins: int, tmp_path: Path
) -> None:
    """The last day that is there may be so in part, as that of the first start is the next day."""
    first, lake = DAY - timedelta(days=7), Lake(tmp_path)
    for table, days in {"usage_1d": usage, "observed_1d": conversations}.items():
        for number in range(days):
            plant(lake, table, (), first + timedelta(days=number))
    assert first_to_load(tmp_path, first, DAY) == first + timedelta(days=begins)


@pytest.mark.parametrize(
    ("noted", "complaint"),
    [
        (f"{DAY - timedelta(days=28)}", "are over: remove that folder"),
        (f"{DAY + timedelta(days=1)}", "remove that folder"),
        ("soon", "first-day holds no date: remove .* to begin a new demo"),
    ],
    ids=["over", "ahead", "no date"],
)
def test_days_of_a_demo_that_can_not_go_on_are_one_line(
    noted: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_773_014_400.0 + 43_200)  # noon of DAY
    home = tmp_path / "data" / "demo-dagster"
    home.mkdir(parents=True)
    (home / "first-day").write_text(noted)
    ended = command(["dagster", "--demo", "--port", "0"])
    assert ended.code == 2
    assert re.fullmatch(rf"mka1-usage: error: .*{complaint}.*\n", ended.err)


def test_dagster_gets_the_demos_settings_and_no_real_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_USAGE_CATALOG", "sqlite:////srv/catalog.db")
    monkeypatch.setenv("MKA1_USAGE_WAREHOUSE", "/srv/lake")
    with EmulatorServer(World()) as server:
        settings = demo_settings(server, tmp_path / "demo", DAY)
    given = environment_of(settings)
    ours = {name: value for name, value in given.items() if name.startswith("MKA1_")}
    assert settings.shared_catalog is None
    assert ours == {
        "MKA1_BASE_URL": server.base_url,
        "MKA1_API_KEY": server.api_key,
        "MKA1_API_KEYS": ",".join(f"{key}={it}" for key, it in server.api_keys.items()),
        "MKA1_USAGE_HOME": str(tmp_path / "demo"),
        "MKA1_USAGE_FIRST_DAY": f"{DAY}",
        "MKA1_USAGE_REQUESTS_PER_SECOND": "1000",
        "MKA1_USAGE_ENDPOINTS": "conversations,responses,costs",
    }
    assert "planted-real-key" not in str(given)


# The page


class Page:
    """Dagster's page, asked as a browser asks it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, query: str, **variables: object) -> Any:
        """The one field of an answer."""
        body = {"query": query, "variables": variables}
        answer = self._client.post("/graphql", json=body).json()
        assert "errors" not in answer, answer
        (data,) = answer["data"].values()
        return data

    def launched(self, job: str, tags: Mapping[str, str]) -> str:
        """How a run ended that was launched as Materialize does."""
        given = {
            "selector": {**WHERE, "jobName": job},
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
        }
        run = self.ask(
            "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) "
            "{ __typename ... on LaunchRunSuccess { run { runId } } } }",
            p=given,
        )
        deadline = time.monotonic() + BOUND
        status = "STARTING"
        while time.monotonic() < deadline and status not in {"SUCCESS", "FAILURE", "CANCELED"}:
            found = self.ask(
                "query($r: ID!) { runOrError(runId: $r) { ... on Run { status } } }",
                r=run["run"]["runId"],
            )
            status = found["status"]
            time.sleep(0.2)
        return str(status)

    def checks(self) -> Mapping[str, str | None]:
        """By asset and check, how its last execution ended."""
        nodes = self.ask(
            "{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks "
            "{ checks { name executionForLatestMaterialization { status } } } } } }"
        )
        return {
            f"{node['assetKey']['path'][0]}.{check['name']}": (
                check["executionForLatestMaterialization"] or {}
            ).get("status")
            for node in nodes
            for check in node["assetChecksOrError"].get("checks", [])
        }

    def partitions(self, asset: str) -> Mapping[str, int]:
        """How many partitions of an asset there are, and how many are materialized."""
        node = self.ask(
            "query($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode "
            "{ partitionStats { numPartitions numMaterialized } } } }",
            k={"path": [asset]},
        )
        found: Mapping[str, int] = node["partitionStats"]
        return found


@contextmanager
def opened(args: list[str], folder: Path, **settings: str) -> Iterator[tuple[Page, Popen[str]]]:
    """The command as a process, once it has said where the page is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    main = [sys.executable, "-c", "from pipeline.cli import main; main()"]
    with started([*main, *args], seconds=4 * BOUND, cwd=folder, env=environment, stderr=PIPE) as it:
        assert it.stderr is not None
        said = read_until("until Ctrl-C", it.stderr)
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[-1]
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Page(client), it


def in_sessions_of(children: set[int]) -> list[int]:
    """The processes whose session one of these leads."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) in children and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def children_of(process: Popen[str]) -> set[int]:
    """The processes that a process has started itself."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return {int(number) for task in tasks for number in task.read_text().split()}


@pytest.mark.slow  # Dagster's page, daemon and code server
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="it looks for processes in /proc")
def test_ctrl_c_ends_dagster_and_leaves_no_process(tmp_path: Path) -> None:
    with opened(["dagster", "--port", "0"], tmp_path) as (page, process):
        location = page.ask(
            "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"
        )
        assert [entry["name"] for entry in location["locationEntries"]] == ["mka1_usage"]
        children = children_of(process)
        assert len(in_sessions_of(children)) >= 4, "dev, code server, webserver, daemon"
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND) == 0
        assert in_sessions_of(children) == []
    assert (tmp_path / "data" / "dagster" / "dagster.yaml").is_file()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="it looks for processes in /proc")
@pytest.mark.timeout(1_800)
def test_kill_ends_dagster_too(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("Dagster is started once more: --long does it")
    with opened(["dagster", "--port", "0"], tmp_path) as (_, process):
        children = children_of(process)
        process.kill()
        process.wait(BOUND)
        deadline = time.monotonic() + BOUND
        while in_sessions_of(children) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert in_sessions_of(children) == []


@pytest.mark.timeout(1_800)
def test_the_demo_works_at_first_click(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("it loads a week and runs every job: --long runs it")
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [line, *_] = blocks(page, "bash")
    assert line == "mka1-usage dagster --demo\n"
    args = line.split()[1:]
    with opened([*args, "--port", "0"], tmp_path) as (dagster, process):
        today = day_of(closed_through(time.time()) - 1)
        for asset in ("usage_1h", "reconciliation", "meters_1d", "costs_1d"):
            stats = dagster.partitions(asset)
            assert stats["numPartitions"] == stats["numMaterialized"] == 8, asset
        one = {"dagster/partition": f"{today}"}
        jobs = {"usage_job": one, "conversations_job": one, "report_job": {}, "export_job": {}}
        for job, tags in {**jobs, "refresh_job": {}, "alerts_job": {}}.items():
            assert dagster.launched(job, tags) == "SUCCESS", job
        checks = dagster.checks()
        assert {name for name, status in checks.items() if status == "FAILED"} == set()
        assert sum(status == "SUCCEEDED" for status in checks.values()) > 30
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["demo-dagster"]
    days = tmp_path / "data" / "demo-dagster" / "lake" / "days"
    assert len(list(days.iterdir())) == 8, "no folder of a day that nobody has asked for"
    texts = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in texts if b"planted-real-key" in path.read_bytes()] == []
