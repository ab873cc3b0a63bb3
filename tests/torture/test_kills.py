"""A run may die at any moment, and the next one puts all right: nothing lost, nothing left over."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from pipeline.emulator import EmulatorServer
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.torture.conftest import Figures
from tests.torture.readers import disagreements
from tests.torture.scenes import Worker, days, exact, require_whole, world
from tests.torture.steps import moments
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
            assert worker.load(server, clean.root, asked, last_step=None) == "done"
            steps = worker.steps
        expected = digests(clean.root)
        killed = whole = torn = resumed = 0
        for number, moment in enumerate(moments(kills, steps, random)):
            home = tmp_path / str(number)
            lake = Lake(home / "lake")
            if number % 2:
                shutil.copytree(older.root.parent, home, symlinks=True)
            with Worker() as worker:
                killed += worker.load(server, lake.root, asked, last_step=moment) == "killed"
            for day in lake.days("usage_1d"):
                torn += len(disagreements(lake.root, day))
            resumed += any((lake.root / ".partial").glob("*/*.rows.arrow"))
            assert next_.load(server, lake.root, asked) == "done"
            require_whole(lake, expected)
            whole += exact(lake, server.world, asked)
            shutil.rmtree(home)
    figures("kill -9", kills=killed, identical=whole, torn_days=torn, with_pages_to_resume=resumed)
    assert (whole, torn) == (kills, 0)
    assert killed >= kills * 3 // 4  # older versions take fewer steps
