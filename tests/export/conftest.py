"""A lake to export, made once: tests only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.emulator import EmulatorServer, World, synthetic_world
from pipeline.lake.store import Lake
from tests.export.exported import DAYS
from tests.synced import Reader


@pytest.fixture(scope="session")
def world() -> World:
    """Three days of a small platform."""
    return synthetic_world(days=len(DAYS), users=7, conversations_per_user_day=2)


@pytest.fixture(scope="session")
def lake(world: World, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The three days, with conversations; the folder has what is special to DuckDB in its name."""
    lake = Lake(tmp_path_factory.mktemp("it's a [home]*") / "lake")
    with EmulatorServer(world) as server:
        reader = Reader(server, lake, DAYS)
        reader.load()
        reader.sync()
    return lake


@pytest.fixture(scope="session")
def star(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the default, a Parquet file a table. Tests only read it."""
    from pipeline.export.export import export

    folder = tmp_path_factory.mktemp("star")
    export(lake, folder)
    return folder
