"""Runs do not trample each other: what they load at once is as if one came after another."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from pipeline.emulator import EmulatorServer
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.torture.conftest import Figures
from tests.torture.scenes import days, exact, require_whole, workers, world
from tests.truth import digests


@pytest.mark.parametrize("number", [2, 8])
def test_runs_over_overlapping_days_leave_what_one_of_them_leaves(
    tmp_path: Path, long: bool, figures: Figures, number: int
) -> None:
    rounds = 50 if long else 2
    asked = days(4)
    random = Random(number)
    identical = finished = 0
    failed: list[str] = []
    with EmulatorServer(world(4, per_day=30)) as server, workers(number) as pool:
        for turn in range(rounds):
            server.world.restate(
                day_window(random.choice(asked)).start, "ada", "key_a", operations=turn + 1
            )
            lake = Lake(tmp_path / f"{turn}" / "lake")
            for place, worker in enumerate(pool):
                first = random.randrange(len(asked)) if place and turn % 2 else 0
                worker.begin(server, lake.root, asked[first:])
            answers = [worker.answer() for worker in pool]
            finished += answers.count("done")
            failed += [answer for answer in answers if answer != "done"]
            clean = Lake(tmp_path / "clean" / "lake")
            assert pool[0].load(server, clean.root, asked) == "done"
            require_whole(lake, digests(clean.root))
            identical += exact(lake, server.world, asked)
            shutil.rmtree(tmp_path / "clean")
            shutil.rmtree(tmp_path / f"{turn}")
    figures(f"{number} runs at once", rounds=rounds, runs_done=finished, identical=identical)
    assert failed == []
    assert identical == rounds
