"""A shared lake to test with: in SQLite and a folder, or on S3, and homes beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.shared_lake import Place
from tests.servers import S3, s3


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A catalog in SQLite, and a folder."""
    return Place(f"sqlite:///{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 server that the environment names."""
    with s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def place_on_s3(tmp_path: Path, store: S3) -> Place:
    """A catalog in SQLite, and a bucket."""
    return Place(f"sqlite:///{tmp_path / 'catalog.db'}", store.warehouse)
