"""A run may die at any moment, and the next one puts all right: nothing lost, nothing left over."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from random import Random

from pipeline.emulator import EmulatorServer
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.torture.conftest import Figures
from tests.torture.readers import disagreements
from tests.torture.scenes import Worker, days, exact, require_whole, world
from tests.truth import digests


def test_a_run_that_is_killed_at_any_moment_is_made_good_by_the_next(
    tmp_path: Path, long: bool, figures: Figures
) -> None:
    """Killed with SIGKILL while it loads three days: into an empty lake, or over older versions."""
    kills = 200 if long else 8
    random = Random(7)
    asked = days(3)
    with EmulatorServer(world(3)) as server, Worker() as next_:
        older = Lake(tmp_path / "older" / "lake")
        assert next_.load(server, older.root, asked) == "done"
        for day in asked:
            server.world.restate(day_window(day).start + 60, "ada", "key_a", operations=5)
        clean = Lake(tmp_path / "clean" / "lake")
        with Worker() as worker:
            began = time.monotonic()
            assert worker.load(server, clean.root, asked) == "done"
            takes = time.monotonic() - began
        expected = digests(clean.root)
        whole = torn = resumed = 0
        for number in range(kills):
            home = tmp_path / str(number)
            lake = Lake(home / "lake")
            if number % 2:
                shutil.copytree(older.root.parent, home, symlinks=True)
            with Worker() as worker:
                worker.begin(server, lake.root, asked)
                worker.wait(random.uniform(0, takes))
            for day in lake.days("usage_1d"):
                torn += len(disagreements(lake.root, day))
            resumed += any((lake.root / ".partial").glob("*/*.rows.arrow"))
            assert next_.load(server, lake.root, asked) == "done"
            require_whole(lake, expected)
            whole += exact(lake, server.world, asked)
            shutil.rmtree(home)
    figures("kill -9", kills=kills, identical=whole, torn_days=torn, with_pages_to_resume=resumed)
    assert (whole, torn) == (kills, 0)
