"""Three days in a shared lake, around the hour that New York's clocks show twice in autumn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.emulator import Event, World
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from pipeline.timeline import DAY, Window, day_window
from tests.fixtures_local import published_home

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake

DAYS = (date(2024, 11, 2), date(2024, 11, 3), date(2024, 11, 4))
WINDOW = Window(day_window(DAYS[0]).start, day_window(DAYS[-1]).end)
USERS = ("ada", None, "o'brien", "ユーザー七")


@dataclass(frozen=True, slots=True)
class Shared:
    """A shared lake, and the home that its days were committed from."""

    place: Place
    home: Path

    @property
    def lake(self) -> Lake:
        """The home's own."""
        return Lake(self.home / "lake")

    def open(self) -> SharedLake:
        """The shared lake as a worker opens it."""
        return open_shared_lake(self.place)

    def settings(self) -> Mapping[str, str]:
        """What a command needs to find both."""
        return {
            "MKA1_USAGE_HOME": str(self.home),
            "MKA1_USAGE_CATALOG": self.place.catalog,
            "MKA1_USAGE_WAREHOUSE": self.place.warehouse,
        }


def share(folder: Path, days: int = len(DAYS), warehouse: str | None = None) -> Shared:
    """A shared lake, in a folder whose name is odd by default, with a home beside it."""
    folder.mkdir(exist_ok=True)
    events = [
        Event(at, USERS[n % 4], (None, "web", "batch")[n % 3], n % 2, n % 5, n % 7)
        for n, at in enumerate(range(WINDOW.start, WINDOW.end, 701))
    ]
    window = Window(WINDOW.start, WINDOW.start + days * DAY)
    home = published_home(folder / "home", World.from_events(events), window)
    place = Place(f"sqlite:///{folder / 'catalog.db'}", warehouse or str(folder / "ware [1] house"))
    shared = Shared(place, home)
    shared.open().commit(shared.lake)
    return shared


@pytest.fixture(scope="session")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Tests only read it, or leave it as it was."""
    return share(tmp_path_factory.mktemp("shared"))
