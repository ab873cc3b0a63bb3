"""bi_export: what the asset writes, and what Dagster is told and shown."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from pipeline.definitions import build_defs
from pipeline.export.tables import DEFAULT
from pipeline.orchestration.resources import Services
from pipeline.orchestration.schedules import EXPORT_JOB
from pipeline.settings import load_settings
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, QUIET, Lab, Ran


def export(lab: Lab, **config: Any) -> Ran:
    """The job, with the asset's config."""
    job = build_defs(lab.services).resolve_job_def(EXPORT_JOB)
    run_config = {**QUIET, "ops": {"bi_export": {"config": config}}}
    result = job.execute_in_process(
        instance=lab.instance, raise_on_error=False, run_config=run_config
    )
    return Ran(result, lab.instance)


def test_the_asset_writes_what_the_command_writes_and_shows_it(loaded_lab: Lab) -> None:
    ran = export(loaded_lab)
    assert ran.success, ran.failures
    folder = loaded_lab.settings.home / "export"
    counts = {name: pq.read_metadata(folder / f"{name}.parquet").num_rows for name in DEFAULT}
    [(key, metadata)] = ran.materialized.items()
    assert key == ("bi_export", None)
    assert metadata["dagster/row_count"].value == sum(counts.values())
    assert metadata["folder"].value == str(folder)
    assert metadata["files_written"].value == len(DEFAULT) + 1
    assert int(str(metadata["bytes"].value)) > 10_000
    assert (metadata["first_day"].value, metadata["last_day"].value) == (
        str(DAYS[0]),
        str(DAYS[-1]),
    )
    for name, count in counts.items():
        assert f"| {name} | {count:,} |" in str(metadata["tables"].value)
    assert (folder / "fact_usage.parquet").stat().st_mode & 0o777 == 0o600


def test_a_run_may_ask_for_other_tables_and_files(loaded_lab: Lab) -> None:
    assert export(loaded_lab, tables=["usage_1d"], by_day=True).success
    folder = loaded_lab.settings.export_dir
    assert len(list(folder.glob("usage_1d/day=*/usage_1d.parquet"))) == len(DAYS)
    assert export(loaded_lab, form="duckdb").success
    names = {"usage_1d", "mka1_usage.duckdb", "DATA_DICTIONARY.md", "export.json"}
    assert {path.name for path in folder.glob("[!.]*")} == names


@pytest.mark.parametrize(
    ("config", "settings", "complaint"),
    [
        ({"tables": ["usage"]}, {}, "there is no table 'usage'"),
        ({"by_day": True, "form": "csv"}, {}, "only Parquet is cut into days"),
        ({}, {"export_names": Path("/nowhere.csv")}, "/nowhere.csv"),
        ({}, {"set_export_dir": Path("/proc/x")}, "/proc/x"),
        ({}, {}, "nothing is loaded in "),
    ],
)
def test_an_export_that_can_not_be_fails_in_words(
    config: dict[str, Any], settings: dict[str, Any], complaint: str, make_lab: MakeLab
) -> None:
    lab = make_lab(**settings)
    if complaint != "nothing is loaded in ":
        assert lab.run(DAYS[0], checks=False).success
    [failure] = export(lab, **config).failures
    assert complaint in failure


def test_it_follows_what_it_is_made_of() -> None:
    graph = build_defs(Services(load=load_settings)).resolve_asset_graph()
    assert graph.get(dg.AssetKey("bi_export")).parent_keys == {
        dg.AssetKey(name)
        for name in (
            *("usage_1m", "usage_1h", "usage_1d", "coverage"),
            *("tokens_1m", "tokens_1h"),
        )
    }


def test_the_schedule_asks_for_an_export_once_there_is_something(loaded_lab: Lab, lab: Lab) -> None:
    schedule = build_defs().resolve_schedule_def("hourly_export")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    tick = datetime(2024, 1, 4, 12, 50, tzinfo=UTC)
    empty = Services(load=lambda: load_settings(home=lab.settings.home / "empty"))
    for services, runs in ((loaded_lab.services, 1), (empty, 0)):
        with dg.build_schedule_context(
            scheduled_execution_time=tick, resources={"services": services}
        ) as context:
            data = schedule.evaluate_tick(context)
        assert len(data.run_requests or []) == runs
