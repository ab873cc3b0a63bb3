"""What the lake's tests start from: an empty lake, and a connection as the pipeline makes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from pipeline.lake import engine
from pipeline.lake.store import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake that holds nothing yet, not even its folder."""
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """One connection for all tests of a module: no test may depend on what another left in it.

    One thread is fastest for a handful of rows; that the number is all the same has its own tests.
    """
    with closing(engine.connect(threads=1)) as connection:
        yield connection
