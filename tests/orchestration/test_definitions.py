"""The code location as Dagster's own commands load and run it, and the secrets it keeps."""

import json
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from datetime import date
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.emulator import EmulatorServer, World
from pipeline.lake.schemas import (
    COST_DATASETS,
    DATASETS,
    LEDGER_DATASETS,
    METER_DATASETS,
    USAGE_DATASETS,
)
from pipeline.orchestration.alert_sensor import ALERT_CHECKS
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.resources import Services
from pipeline.orchestration.schedules import JOB
from pipeline.settings import load_settings
from tests.bounded import LIMIT, started
from tests.orchestration.lab import ASSETS, DAYS, QUIET, small_world

ROOT = Path(__file__).parents[2]
DAGSTER = Path(sys.executable).parent / "dagster"


def dagster(*args: str, **environment: str) -> AbstractContextManager[Popen[str]]:
    """`dagster ARGS` from the repository's root, every warning shown."""
    return started(
        [DAGSTER, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "always", **environment},
        stdout=PIPE,
        stderr=STDOUT,
    )


def warnings_of_ours(output: str) -> list[str]:
    """Warnings that point into this repository, not into what it depends on."""
    ours = f"{ROOT / 'pipeline'}{os.sep}"
    return [line for line in output.splitlines() if "Warning" in line and ours in line]


def test_the_code_location_loads_without_an_account_and_without_a_warning(tmp_path: Path) -> None:
    command = ("definitions", "validate", "-w", "workspace.yaml")
    with dagster(*command, DAGSTER_HOME=str(tmp_path)) as process:
        output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    assert "mka1_usage" in output
    assert warnings_of_ours(output) == []


def test_what_a_code_location_holds() -> None:
    defs = build_defs(Services(load=load_settings))
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        *(DATASETS.keys() - METER_DATASETS.keys() - COST_DATASETS.keys()),
        "bi_export",
        "usage_report",
    }
    assert set(ASSETS) == {*USAGE_DATASETS, *LEDGER_DATASETS}
    cascade = list(USAGE_DATASETS)
    for asset, source in zip(cascade[1:], cascade, strict=False):
        assert graph.get(dg.AssetKey(asset)).parent_keys == {dg.AssetKey(source)}
    warns_only = {dg.AssetCheckKey(dg.AssetKey("reconciliation"), "no_unexplained_differences")}
    block_nothing = warns_only | set(ALERT_CHECKS)
    assert len(graph.asset_check_keys) == 50
    assert {key for key in graph.asset_check_keys if not graph.get(key).blocking} == block_nothing
    assert {schedule.name for schedule in defs.schedules or []} == {
        "hourly_trailing_window",
        "daily_long_window",
        "hourly_conversations",
        "hourly_export",
        "daily_refresh",
        "weekly_digest",
        "daily_retention",
    }
    policy = graph.get(dg.AssetKey("usage_1d")).backfill_policy
    assert policy == dg.BackfillPolicy.single_run()


@pytest.mark.parametrize("first_day", ["2024-01-01", "2030-01-01", "2020-01-01"])
def test_the_first_partition_is_a_setting(first_day: str) -> None:
    settings = load_settings(first_day=date.fromisoformat(first_day))
    defs = build_defs(Services(load=lambda: settings))
    partitions = defs.resolve_asset_graph().get(dg.AssetKey("raw_usage")).partitions_def
    assert isinstance(partitions, dg.DailyPartitionsDefinition)
    assert partitions.start.date() == settings.first_day


@pytest.mark.slow  # two processes of Dagster's own command
def test_a_range_runs_from_dagsters_own_commands(tmp_path: Path) -> None:
    tags = json.dumps(range_tags(DAYS[0], DAYS[1]))
    commands = {
        "job": ("job", "execute", "-m", "pipeline.definitions", "-j", JOB, "--tags", tags),
        "materialize": (
            *("asset", "materialize", "-m", "pipeline.definitions", "--select", "group:usage"),
            *("--partition-range", f"{DAYS[0]}...{DAYS[1]}"),
        ),
    }
    with EmulatorServer(small_world()) as server, ExitStack() as stack:
        processes = {}
        for name, command in commands.items():
            home = tmp_path / name
            (home / "dagster").mkdir(parents=True)
            process = dagster(
                *command,
                DAGSTER_HOME=str(home / "dagster"),
                MKA1_USAGE_HOME=str(home),
                MKA1_BASE_URL=server.base_url,
                MKA1_API_KEY=server.api_key,
            )
            processes[name] = stack.enter_context(process)
        outputs = {
            name: process.communicate(timeout=LIMIT)[0] for name, process in processes.items()
        }
    published: dict[str, dict[str, bytes]] = {}
    for name, process in processes.items():
        assert process.returncode == 0, outputs[name]
        assert warnings_of_ours(outputs[name]) == []
        assert server.api_key not in outputs[name]
        lake = tmp_path / name / "lake"
        files = sorted(lake.glob("usage_*/day=*/*.parquet"))
        published[name] = {str(file.relative_to(lake)): file.read_bytes() for file in files}
        with dg.DagsterInstance.from_config(str(tmp_path / name / "dagster")) as instance:
            for asset in ASSETS:
                recorded = instance.get_materialized_partitions(dg.AssetKey(asset))
                assert recorded == {str(DAYS[0]), str(DAYS[1])}
    assert len(published["job"]) == 6
    assert published["job"] == published["materialize"]


@pytest.mark.parametrize("key_is_good", [True, False], ids=["a good run", "a refused key"])
def test_a_secret_is_in_no_byte_of_the_instance(tmp_path: Path, key_is_good: bool) -> None:
    secret = "emulator-planted" if key_is_good else "planted-but-refused"
    folder = tmp_path / "dagster"
    folder.mkdir()
    with (
        EmulatorServer(World(keys=["planted"])) as server,
        dg.DagsterInstance.local_temp(str(folder)) as instance,
    ):
        assert server.api_key == "emulator-planted"
        settings = load_settings(
            base_url=server.base_url,
            api_key=secret,
            api_keys={"planted": secret},
            home=tmp_path / "home",
            retry_seconds=0,
        )
        job = build_defs(Services(load=lambda: settings)).resolve_job_def(JOB)
        result = job.execute_in_process(
            instance=instance,
            tags=range_tags(DAYS[0], DAYS[0]),
            raise_on_error=False,
            run_config=QUIET,
        )
        assert result.success == key_is_good
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    everything = b"".join(path.read_bytes() for path in files)
    assert result.run_id.encode() in everything, "the event log is among what was read"
    assert secret.encode() not in everything
