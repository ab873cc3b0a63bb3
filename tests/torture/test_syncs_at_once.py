"""Syncs, loads, refreshes and exports at once leave what they leave one after the other."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from random import Random

from pydantic import SecretStr

from pipeline.api import Client
from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.export.export import export
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from pipeline.usage.refresh import refresh_days
from tests.torture.conftest import Figures
from tests.torture.scenes import require_cleared_up, workers
from tests.torture.talking import DAYS, KEYS, differing, grow, read, talk
from tests.truth import FAST


def test_two_syncs_at_once_beside_others_that_write_and_read_leave_what_one_leaves(
    tmp_path: Path, long: bool, figures: Figures
) -> None:
    rounds = 8 if long else 2
    random = Random(12)
    world = World(keys=KEYS, clock=ManualClock(day_window(DAYS[-1]).end + 30.0 * 86_400))
    for _ in range(40):
        talk(world, random, day_window(random.choice(DAYS)).start + random.randrange(80_000))
    wrong: list[str] = []
    with EmulatorServer(world) as server, workers(3) as pool:
        lake = Lake(tmp_path / "lake" / "lake")
        connect = partial(Client, server.base_url, SecretStr(server.api_key), FAST, now=world.clock)
        assert pool[0].load(server, lake.root, DAYS) == "done"
        for turn in range(rounds):
            pool[0].begin_sync(server, lake.root, DAYS, KEYS)
            pool[1].begin_sync(server, lake.root, DAYS[turn % 3 :], KEYS, full=bool(turn % 2))
            pool[2].begin(server, lake.root, DAYS)
            world.restate(day_window(DAYS[turn % 3]).start, "ada", KEYS[0], operations=turn + 1)
            refresh_days(connect, lake, now=world.clock)
            export(lake, tmp_path / "export")
            wrong += [answer for worker in pool if (answer := worker.answer()) != "done"]
            grow(world, random, 600.0 * turn)
            assert pool[0].load(server, lake.root, DAYS) == "done"
            assert pool[0].sync(server, lake.root, DAYS, KEYS) == "done"
            require_cleared_up(lake)
            clean = Lake(tmp_path / "clean" / "lake")
            assert pool[0].load(server, clean.root, DAYS) == "done"
            assert pool[0].sync(server, clean.root, DAYS, KEYS) == "done"
            wrong += [f"round {turn}: {table}" for table in differing(read(lake), read(clean))]
            shutil.rmtree(tmp_path / "clean")
    figures("2 syncs, a load and a refresh at once", rounds=rounds, wrong=len(wrong))
    assert not wrong, ", ".join(wrong)
