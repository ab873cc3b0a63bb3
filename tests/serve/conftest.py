"""What the tests of the server start from: three made-up days, loaded and served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.emulator import World, synthetic_world
from pipeline.timeline import Window
from tests.fixtures_local import published_home
from tests.serve.asking import DAYS, END, START, client, serving


@pytest.fixture(scope="session")
def traffic() -> World:
    """Three days of made-up traffic, users with odd ids among it. Tests only read it."""
    return synthetic_world(days=DAYS, users=20)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, traffic: World) -> Path:
    """A home with these days. Tests only read it."""
    return published_home(tmp_path_factory.mktemp("served"), traffic, Window(START, END))


@pytest.fixture(scope="session")
def http(home: Path) -> Iterator[httpx.Client]:
    """A client of a server over it that asks for no key."""
    with serving(home) as server, client(server.url) as asking:
        yield asking
