"""Lakes for the tests of the report, loaded once and only read."""

from __future__ import annotations

import pytest

from pipeline.emulator import EmulatorServer, World, synthetic_world
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, parse_time
from tests.truth import load

START = parse_time("2024-03-18")
"""Two weeks later, clocks in Europe are moved; one week before, those in America were."""
DAYS = 24


@pytest.fixture(scope="session")
def world() -> World:
    """Traffic over two weeks and a half, in which clocks are moved."""
    return synthetic_world(start=START, days=DAYS, users=14, conversations_per_user_day=2.0)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, world: World) -> Lake:
    """All of it, loaded."""
    lake = Lake(tmp_path_factory.mktemp("home") / "lake")
    with EmulatorServer(world) as server:
        load(server, lake, Window(START, START + DAYS * DAY).days)
    return lake
