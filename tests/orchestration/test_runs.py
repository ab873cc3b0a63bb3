"""A run in this process, and how it tells what became of it."""

import io
import math
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.definitions import build_defs
from pipeline.emulator import EmulatorServer, Faults
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.orchestration import runs
from pipeline.orchestration.assets.finalize import finalize
from pipeline.orchestration.resources import Services
from pipeline.orchestration.runs import Outcome, run_days
from pipeline.settings import Settings, load_settings
from pipeline.usage.load import Progress
from tests.orchestration.lab import DAYS, small_world


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(small_world()) as serving:
        yield serving


@pytest.fixture
def settings(server: EmulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # `run_days` points DAGSTER_HOME at its own folder; what was there comes back afterwards.
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return load_settings(
        base_url=server.base_url, api_key=server.api_key, home=tmp_path, retry_seconds=0
    )


def ran(settings: Settings, days: int = 1) -> Outcome:
    return run_days(settings, DAYS[0], DAYS[days - 1], Console(file=io.StringIO()))


def test_a_good_run_has_made_every_check_and_is_kept_below_the_home_folder(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ran(settings, days=2) == Outcome(failures=(), warnings=(), checks=16)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        (run,) = instance.get_runs()
        assert run.is_success
        partitions = instance.get_materialized_partitions(dg.AssetKey("usage_1d"))
    assert partitions == {"2024-01-01", "2024-01-02"}
    output = capfd.readouterr()
    assert output.out == ""
    published = [line for line in output.err.splitlines() if "published" in line]
    assert len(published) == 2
    assert "ASSET_MATERIALIZATION" not in output.err, "Dagster's own log stays out of the terminal"


def test_a_spent_quota_is_one_failure_that_says_how_to_resume(
    server: EmulatorServer, settings: Settings
) -> None:
    server.faults = Faults(quota=1)
    outcome = ran(settings)
    (failure,) = outcome.failures
    assert "a quota of this key is spent" in failure
    assert "Resume with: mka1-usage run --start 2024-01-01 --end 2024-01-02" in failure
    assert outcome.checks == 0


@pytest.mark.slow  # each request waits for a second
def test_what_is_tried_again_is_said_and_logged_but_not_each_time(
    server: EmulatorServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    server.faults = Faults(rates={"server_error": 1}, max_consecutive=1)  # each request, once
    monkeypatch.setattr(runs, "say", said.append)
    monkeypatch.setattr("pipeline.orchestration.resources._RETRIES_EVERY", math.inf)
    outcome = ran(settings.model_copy(update={"retry_seconds": 60}))
    assert not outcome.failures
    assert len([status for _, _, status in server.requests if status >= 500]) > 1
    (message,) = said
    assert re.fullmatch(r"retrying: 50\d: .*; next try in 1 s", message)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        (run,) = instance.get_runs()
        logged = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert logged.count(message) == 1


def test_what_the_checks_find_is_said_once_and_in_words(
    server: EmulatorServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(path: Path) -> None:
        table = pq.read_table(path)
        pq.write_table(table.slice(1), path)

    def load_and_spoil(*args: Any, **options: Any) -> Any:
        catalog = build_catalog(*args, **options)
        spoil(settings.lake / "usage_1d" / "day=2024-01-02" / "usage_1d.parquet")
        return catalog

    monkeypatch.setattr("pipeline.orchestration.assets.finalize.build_catalog", load_and_spoil)
    outcome = ran(settings, days=2)
    across, api, adds = sorted(outcome.failures)
    assert across.startswith("totals_equal_across_grains of usage_1d: ")
    assert api.startswith("totals_equal_the_api of usage_1d: usage_1d, or the hours")
    assert adds.startswith("widths_add_up of usage_1d: ")
    assert outcome.checks == 16
    assert outcome.warnings == ()


def test_a_day_before_the_first_is_a_failure(settings: Settings) -> None:
    later = settings.model_copy(update={"first_day": DAYS[1]})
    (failure,) = ran(later).failures
    assert "2024-01-01 is before the first partition, 2024-01-02" in failure


def test_a_run_that_never_comes_to_a_step_is_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.resource
    def broken(_: object) -> None:
        raise RuntimeError

    def with_broken_workspace(services: Services) -> dg.Definitions:
        defs = build_defs(services)
        return dg.Definitions(
            assets=defs.assets,
            asset_checks=defs.asset_checks,
            jobs=defs.jobs,
            resources={"services": broken},
        )

    monkeypatch.setattr(runs, "build_defs", with_broken_workspace)
    assert ran(settings).failures


def test_an_interrupt_ends_the_run_as_an_interrupt_and_keeps_the_days_that_were_published(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[date] = []

    @contextmanager
    def interrupting(*_: object) -> Iterator[Callable[[Progress], None]]:
        def listener(progress: Progress) -> None:
            if progress.published:
                published.append(progress.day)
                if len(published) == 1:
                    os.kill(os.getpid(), signal.SIGINT)

        yield listener

    monkeypatch.setattr(runs, "showing", interrupting)
    with pytest.raises(KeyboardInterrupt):
        ran(settings, days=2)
    assert published
    assert Lake(settings.lake).days("usage_1d") == sorted(published)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        recorded = instance.get_materialized_partitions(dg.AssetKey("usage_1d"))
    assert recorded == {str(day) for day in published}


def test_what_interrupts_a_run_that_has_published_all_does_not_keep_dagster_from_being_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(services: Services) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        finalize(services)

    monkeypatch.setattr("pipeline.orchestration.assets.usage.finalize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ran(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        recorded = instance.get_materialized_partitions(dg.AssetKey("usage_1d"))
        (run,) = instance.get_runs()
    assert recorded == {str(DAYS[0])}
    assert run.status is dg.DagsterRunStatus.FAILURE


def test_a_run_that_dagster_has_given_up_is_not_left_as_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = dg.JobDefinition.execute_in_process

    def interrupted(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(
            "dagster._core.execution.execute_in_process.ExecuteRunWithPlanIterable", stopped
        )
        return begun(*args, **options)

    def stopped(**_: object) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(dg.JobDefinition, "execute_in_process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ran(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
