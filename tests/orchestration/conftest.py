"""Labs for the tests of the Dagster definitions, each with a home folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pipeline.emulator import EmulatorServer, Faults, World
from pipeline.orchestration.resources import Services
from pipeline.settings import load_settings
from tests.orchestration.lab import DAYS, Lab, Ran, small_world
from tests.truth import in_2024

MakeLab = Callable[..., Lab]


@pytest.fixture(scope="session", autouse=True)
def _revisions_read_once() -> Iterator[None]:
    """Dagster stamps each new database, for which Alembic loads its fifty revisions each time."""
    read: dict[str | None, ScriptDirectory] = {}
    real = ScriptDirectory.from_config

    def from_config(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in read:
            read[place] = real(config)
        return read[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@contextmanager
def labs(home: Path) -> Iterator[MakeLab]:
    """Labs that end with the block, in `home` or another one. Other keywords are settings."""
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
                    "home": home,
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
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    """Labs that end with the test."""
    with labs(tmp_path / "home") as make:
        yield make


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """Three small days that are long over, nothing loaded."""
    return make_lab()


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Ran]]:
    """A run that loaded the three days, and its lab. Tests only look at them."""
    with labs(tmp_path_factory.mktemp("loaded") / "home") as make:
        lab = make()
        yield lab, lab.run(DAYS[0], DAYS[-1])


@pytest.fixture(scope="session")
def loaded_home(whole_run: tuple[Lab, Ran]) -> Path:
    """A home folder with the three days loaded. Tests copy it."""
    lab, ran = whole_run
    assert ran.success
    return lab.settings.home


@pytest.fixture
def loaded_lab(make_lab: MakeLab, loaded_home: Path, tmp_path: Path) -> Lab:
    """The three days, loaded."""
    shutil.copytree(loaded_home, tmp_path / "home", symlinks=True)
    return make_lab()
