"""A worker in a process of its own: hydrates, loads, commits, until it is done or is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from pipeline.api import Client
from pipeline.lake.store import Lake
from pipeline.shared_lake import DaysMovedError, Place, catalogs, open_shared_lake
from pipeline.shared_lake.catalogs import SharedSqlCatalog
from pipeline.shared_lake.shared import SharedLake
from pipeline.usage.load import load_days
from tests.truth import FAST

TRIES: Final = 20


def work(
    shared: SharedLake, lake: Lake, asked: Sequence[date], load: Callable[[Sequence[date]], object]
) -> int:
    """Load days on top of what stands, and commit them; how often it was begun."""
    todo = list(asked)
    for attempt in range(1, TRIES + 1):
        shared.hydrate(lake, todo)
        load(todo)
        try:
            shared.commit(lake, asked)
        except DaysMovedError as moved:
            todo = moved.days
        else:
            return attempt
    raise AssertionError(f"moved {TRIES} times")


def kill_itself(*_: Any, **__: Any) -> Any:
    """As `kill -9`: nothing is cleared up."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(task: dict[str, Any]) -> None:
    """Do what a test asks for, as JSON."""
    shared = open_shared_lake(Place(task["catalog"], task["warehouse"]))
    lake = Lake(Path(task["home"]) / "lake")
    days = [date.fromisoformat(day) for day in task["days"]]
    killed_at = task.get("killed_at")
    if killed_at == "uploaded":
        SharedSqlCatalog.commit_together = kill_itself  # type: ignore[method-assign]
    elif killed_at == "metadata written":
        setattr(catalogs, "Session", kill_itself)  # noqa: B010  what the module imports, too

    def load(todo: Sequence[date]) -> object:
        return load_days(
            lambda: Client(task["base_url"], SecretStr(task["key"]), FAST),
            lake,
            todo,
            now=lambda: task["now"],
        )

    print(work(shared, lake, days, load))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
