"""retention_job drops what is not to be kept, and runs over such days go as over others."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.orchestration.retention import JOB
from pipeline.timeline import DAY, day_window
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import DAYS, QUIET, Lab

NOW = float(day_window(DAYS[-1]).start + 40 * DAY)
"""41 days after the second day."""


@pytest.fixture
def old_lab(make_lab: MakeLab, loaded_home: Path, tmp_path: Path) -> Lab:
    """The three days, loaded, 40 to 42 days later: hours are kept for 40 days."""
    shutil.copytree(loaded_home, tmp_path / "home", symlinks=True)
    return make_lab(now=lambda: NOW, keep_minutes_days=40, keep_hours_days=41)


@pytest.mark.slow
def test_a_run_over_days_whose_minutes_or_hours_are_gone_passes_its_checks(old_lab: Lab) -> None:
    job = build_defs(old_lab.services).resolve_job_def(JOB)
    assert job.execute_in_process(instance=old_lab.instance, run_config=QUIET).success
    lake = old_lab.lake
    assert lake.days("usage_1m") == DAYS[2:]
    assert lake.days("usage_1h") == DAYS[1:]
    assert lake.days("usage_1d") == DAYS
    ran = old_lab.run(DAYS[0], DAYS[-1])
    assert ran.failures == []
    assert ran.failed_checks == set()
    assert "dagster/row_count" not in ran.materialized["usage_1m", f"{DAYS[0]}"]
    assert "chart" not in ran.materialized["usage_1d", f"{DAYS[0]}"]
    assert lake.days("usage_1m") == DAYS[2:]


def test_the_schedule_skips_where_all_is_kept(lab: Lab) -> None:
    schedule = build_defs(lab.services).resolve_schedule_def("daily_retention")
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2024, 1, 10, 5, 35, tzinfo=UTC),
        resources={"services": lab.services},
    )
    (skipped,) = [schedule.evaluate_tick(context).skip_message]
    assert skipped is not None
    assert "no MKA1_USAGE_KEEP_…_DAYS is set" in skipped
    assert schedule.job_name == JOB
