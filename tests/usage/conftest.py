"""Lakes that were loaded while their last day was open."""

import pytest

from pipeline.lake.store import Lake
from tests.usage.traffic import Traffic, fresh, load


@pytest.fixture(scope="session")
def loaded_open(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two days as they were at 10:05 of the second one; tests take copies."""
    lake, of = Lake(tmp_path_factory.mktemp("loaded") / "lake"), fresh()
    load(Traffic(of).api, lake, of, "full")
    return lake
