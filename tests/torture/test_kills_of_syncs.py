"""A sync may die at any moment, and the next one ends where one that was left alone ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.torture.conftest import Figures
from tests.torture.scenes import Worker, require_cleared_up
from tests.torture.steps import moments
from tests.torture.talking import DAYS, KEYS, differing, grow, read, talk


@pytest.mark.parametrize("before", ["nothing", "an older sync"])
def test_a_sync_that_is_killed_at_any_moment_is_made_good_by_the_next(
    tmp_path: Path, long: bool, figures: Figures, before: str
) -> None:
    """Over usage alone, or over an older sync without the last key: what was done with that on days
    that are not asked for has to be observed too."""
    kills = 300 if long else 4
    random = Random(before)
    world = World(keys=KEYS, clock=ManualClock(day_window(DAYS[-1]).end + 30.0 * 86_400))
    for _ in range(60):
        talk(world, random, day_window(random.choice(DAYS)).start + random.randrange(80_000))
    with EmulatorServer(world) as server, Worker() as next_:
        older = Lake(tmp_path / "older" / "lake")
        assert next_.load(server, older.root, DAYS) == "done"
        asked = DAYS
        if before != "nothing":
            assert next_.sync(server, older.root, DAYS, KEYS[:-1]) == "done"
            grow(world, random)
            assert next_.load(server, older.root, DAYS) == "done"
            asked = DAYS[-1:]
        clean = Lake(tmp_path / "clean" / "lake")
        shutil.copytree(older.root.parent, clean.root.parent, symlinks=True)
        with Worker() as worker:
            assert worker.sync(server, clean.root, asked, KEYS, last_step=None) == "done"
            steps = worker.steps
        expected = read(clean)
        assert all(expected.values())
        wrong: list[str] = []
        killed = 0
        for number, moment in enumerate(moments(kills, steps, random)):
            home = tmp_path / str(number)
            lake = Lake(home / "lake")
            shutil.copytree(older.root.parent, home, symlinks=True)
            with Worker() as worker:
                ended = worker.sync(server, lake.root, asked, KEYS, last_step=moment)
                killed += ended == "killed"
            if number % 2:  # the second dies too
                with Worker() as worker:
                    last = random.randint(1, steps)
                    worker.sync(server, lake.root, asked, KEYS, full=True, last_step=last)
            assert next_.sync(server, lake.root, asked, KEYS) == "done"
            require_cleared_up(lake)
            wrong += [f"kill {number}: {table}" for table in differing(read(lake), expected)]
            shutil.rmtree(home)
    figures(
        f"kill -9 of syncs over {before}",
        kills=killed,
        tables_wrong=len(wrong),
    )
    assert not wrong, ", ".join(wrong)
    assert killed >= kills - kills // 20  # threads take their steps in any order
