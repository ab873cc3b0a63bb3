"""What the tests of the doctor start from: a place that is well, and a way to look at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.doctor import Finding
from pipeline.doctor.configured import check_context
from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, parse_time
from tests.fixtures_local import clean_environment, published_home

START = parse_time("2024-01-01")
NOW = START + 3.0 * DAY
"""The clock of the tests: the end of the last day that is loaded."""
PATIENT = 120.0
"""Seconds. The machine that runs tests may be slow; nothing here waits so long."""

Found = list[Finding]
Look = Callable[..., Found]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with three made-up days. Tests copy it."""
    world = synthetic_world(days=3, users=6)
    window = Window(START, START + 3 * DAY)
    return published_home(tmp_path_factory.mktemp("doctor") / "home", world, window)


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    """The gateway."""
    with EmulatorServer(synthetic_world(days=1, users=3)) as server:
        yield server


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: EmulatorServer
) -> pytest.MonkeyPatch:
    """An empty current folder, and an account at the emulator; to be changed by the test."""
    account = {
        "MKA1_BASE_URL": server.base_url,
        "MKA1_API_KEY": server.api_key,
        "MKA1_USAGE_HOME": str(tmp_path / "home"),
    }
    clean_environment(monkeypatch, tmp_path, account)
    return monkeypatch


@pytest.fixture
def home(place: pytest.MonkeyPatch, tmp_path: Path, original: Path) -> Path:
    """The home folder of that place, with three days in it. Its catalog shows another lake."""
    home = tmp_path / "home"
    shutil.copytree(original, home, symlinks=True)
    return home


@pytest.fixture
def catalog(home: Path) -> Path:
    """A catalog of its own."""
    build_catalog(Lake(home / "lake"), home / "usage.duckdb")
    return home / "usage.duckdb"


@pytest.fixture
def look(place: pytest.MonkeyPatch) -> Look:
    """Make the checks of these names, in their order; `now` is the clock."""

    def found(*names: str, now: Callable[[], float] = lambda: NOW, deep: bool = False) -> Found:
        environment = {name: value for name, value in os.environ.items() if value}
        given = replace(check_context(environment, deep=deep, patience=PATIENT), now=now)
        checks = [check for check in doctor.CHECKS if check.name in names]
        assert len(checks) == len(names)
        return list(doctor.examine(given, checks))

    return found


def told(found: Found) -> str:
    """Findings as lines: state, subject, and all the words."""
    return "\n".join(f"{one.state} {one.subject}: {one.found} -> {one.fix}" for one in found)
