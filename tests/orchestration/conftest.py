"""Labs for the tests of the Dagster definitions, each with a home folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline.emulator import EmulatorServer, Faults, World
from pipeline.orchestration.resources import Services
from pipeline.settings import load_settings
from tests.orchestration.lab import DAYS, Lab, small_world
from tests.truth import in_2024

MakeLab = Callable[..., Lab]


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    """Labs that end with the test. Keywords that are no parameter are settings."""
    with ExitStack() as stack:

        def make(
            world: World | None = None,
            *,
            faults: Faults | None = None,
            now: Callable[[], float] | None = None,
            **settings: Any,
        ) -> Lab:
            server = stack.enter_context(EmulatorServer(world or small_world(), faults))
            loaded = load_settings(
                **{
                    "base_url": server.base_url,
                    "api_key": server.api_key,
                    "home": tmp_path / "home",
                    "requests_per_second": 10_000,
                    "retry_seconds": 0,
                    **settings,
                }
            )
            instance = stack.enter_context(dg.DagsterInstance.ephemeral())
            services = Services(load=lambda: loaded)
            services.now = now or in_2024
            return Lab(server, loaded, services, instance)

        yield make


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """Three small days that are long over, nothing loaded."""
    return make_lab()


@pytest.fixture(scope="session")
def loaded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the three days loaded. Tests copy it."""
    home = tmp_path_factory.mktemp("loaded") / "home"
    with EmulatorServer(small_world()) as server, dg.DagsterInstance.ephemeral() as instance:
        settings = load_settings(base_url=server.base_url, api_key=server.api_key, home=home)
        services = Services(load=lambda: settings, now=in_2024)
        assert Lab(server, settings, services, instance).run(DAYS[0], DAYS[-1]).success
    return home


@pytest.fixture
def loaded_lab(make_lab: MakeLab, loaded_home: Path, tmp_path: Path) -> Lab:
    """The three days, loaded."""
    shutil.copytree(loaded_home, tmp_path / "home", symlinks=True)
    return make_lab()
