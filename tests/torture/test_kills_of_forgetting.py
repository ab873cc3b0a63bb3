"""Whoever forgets a person may be killed at any moment, and the same command ends it."""

from __future__ import annotations

import os
import shutil
import time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest

from pipeline.emulator import EmulatorServer
from pipeline.forget import forget, person_of
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake
from tests.bounded import LONG, copied
from tests.forget.people import (
    DAYS,
    WHO,
    add_outputs,
    forgotten,
    named_in,
    new_home,
    new_world,
    places_of,
)
from tests.synced import Reader, rows_of
from tests.torture.conftest import Figures
from tests.torture.scenes import require_cleared_up


def forget_in(tasks: Connection) -> None:
    """Forget them in each home that comes; says when it is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # as in tests/conftest.py: nobody takes the power away
        while True:
            try:
                home = Path(tasks.recv())
            except EOFError:
                return
            forget(Lake(home / "lake"), places_of(home), person_of(WHO, None))
            tasks.send("done")


@pytest.mark.slow
def test_whoever_is_killed_at_any_moment_runs_it_again(
    tmp_path: Path, long: bool, figures: Figures
) -> None:
    """After each kill the tables are whole and every total is right; then it comes to its end."""
    kills = 50 if long else 2
    random = Random(4)
    original = tmp_path / "original"
    with EmulatorServer(new_world()) as server:
        reader = new_home(server, original)
        add_outputs(original)
        expected = totals(reader.lake)
        takes = duration(original, tmp_path / "timed")
        begun = 0
        for number in range(kills):
            home = Path(shutil.copytree(original, tmp_path / str(number), symlinks=True))
            with copied(forget_in, seconds=LONG) as (process, tasks):
                tasks.send(str(home))
                process.join(takes * (number + random.random()) / kills)
            again = Reader(server, Lake(home / "lake"), DAYS)
            assert totals(again.lake) == expected
            begun += (home / "lake" / ".forgotten.json").exists()
            assert forgotten(again, home).proven, number
            assert named_in(home) == [], number
            assert totals(again.lake) == expected
            require_cleared_up(again.lake)
            shutil.rmtree(home)
    figures("kill -9 of forgetting", kills=kills, killed_once_begun=begun, left_somewhere=0)
    assert begun


def totals(lake: Lake) -> dict[str, object]:
    """Each table's rows without users, and without what they wrote, which goes."""
    left_out = {"user_id", "metadata"}
    return {
        name: sorted(repr({key: row[key] for key in row.keys() - left_out}) for row in rows)
        for name, rows in rows_of(lake, DATASETS.keys() - {"item_contents"}).items()
    }


def duration(original: Path, home: Path) -> float:
    """How long it takes, in a process that has done it once before."""
    with copied(forget_in, seconds=LONG) as (_, tasks):
        began = 0.0
        for _ in range(2):
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(original, home, symlinks=True)
            began = time.monotonic()
            tasks.send(str(home))
            assert tasks.recv() == "done"
        return time.monotonic() - began
