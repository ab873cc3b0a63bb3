"""`docs/alerts.md` keeps its word: its commands run, and its names are those of the product."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from pipeline.definitions import build_defs
from pipeline.orchestration.alert_sensor import ALERT_CHECKS
from pipeline.settings import Settings
from tests.alerts.history import History
from tests.documented import blocks, pasted

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
COMMANDS: Final = [line for block in blocks(DOCS, "bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A folder like a clone, as far as the commands need one, with a week loaded into `data`."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "workspace.yaml", folder)
    history = History(days=7)
    history.daily(100)
    history.publish(folder / "data")
    (folder / "data" / "dagster").mkdir()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MKA1")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DAGSTER_HOME": str(folder / "data" / "dagster"),
        "PWD": str(folder),
    }


@pytest.mark.slow  # processes of Dagster
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_should(command: str, environment: Mapping[str, str]) -> None:
    done = pasted(command, environment["PWD"], environment)
    assert done.returncode == 0, done.stderr
    if command.startswith("dagster job"):
        assert "something is wrong" in done.stdout
        assert "usage is complete through 2024-01-08T00:00:00Z only" in done.stdout + done.stderr


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 3


def test_every_check_setting_and_definition_that_is_named_exists() -> None:
    names = set(re.findall(r"`([a-zA-Z0-9_]+)`", DOCS))
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    assert {name for name in names if name.startswith("MKA1")} <= settings
    assert {name for name in settings if "_ALERT_" in name} <= names
    assert {key.name for key in ALERT_CHECKS} <= names
    defs = build_defs()
    assert {"alerts", "alerts_job"} <= names
    assert defs.resolve_sensor_def("alerts").job_name == "alerts_job"


def test_the_defaults_are_those_that_the_figures_were_measured_with() -> None:
    fields = Settings.model_fields
    measured = {
        "alert_late_minutes": 150,
        "alert_baseline_days": 28,
        "alert_spike_times": 3.0,
        "alert_spike_operations": 100,
        "alert_zero_usual": 100,
        "alert_failed_percent": 20.0,
        "alert_failed_responses": 10,
    }
    assert {name: fields[name].default for name in measured} == measured
