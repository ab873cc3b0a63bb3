"""Whoever forgets a person may be killed at any moment, and the same command ends it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Final

import pytest

from pipeline.emulator import EmulatorServer
from pipeline.forget import Places, forget, person_of
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from tests.bounded import LONG, copied
from tests.forget.people import WHO, add_outputs, named_in, new_home, new_world, places_of
from tests.synced import rows_of
from tests.torture.conftest import Figures
from tests.torture.scenes import require_cleared_up
from tests.torture.steps import count_steps

PARTS: Final = {
    "from now on": "days",
    "redone": "commit",
    "removing": "expire",
    "removed": "outputs",
    "searching": "search",
}
"""Which part begins after it has said something with these words."""


def places(home: Path, shares: bool) -> Places:
    """All places of a home, which shares its lake with others or does not."""
    found = places_of(home)
    if not shares:
        return found
    place = Place(f"sqlite:///{home.parent / 'catalog.db'}", str(home.parent / "warehouse"))
    return replace(found, shared=open_shared_lake(place))


def forget_in(tasks: Connection) -> None:
    """Forget them in a home, up to a step on the disk; sends each line, after how many steps."""
    home, shares, last = tasks.recv()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # as in tests/conftest.py: nobody takes the power away
        all_places = places(home, shares)
        steps = count_steps(last, reads=True)
        person = person_of(WHO, None)
        forget(Lake(home / "lake"), all_places, person, lambda said: tasks.send((said, steps())))
        tasks.send(("", steps()))


def run(home: Path, shares: bool, last: int | None = None) -> tuple[dict[str, int], int | None]:
    """Forget them in another process: at which step each part began, and all the steps; None if
    it was killed."""
    began = {"begin": 0}
    with copied(forget_in, seconds=LONG) as (_, tasks):
        tasks.send((home, shares, last))
        try:
            while True:
                said, steps = tasks.recv()
                if not said:
                    return began, steps
                for words, part in PARTS.items():
                    if words in said and (part == "commit" or part not in began):
                        began[part] = steps  # after the last of the days, the first of the others
        except (EOFError, ConnectionResetError):
            return began, None


@pytest.mark.parametrize("shares", [False, True], ids=["home", "shared"])
def test_whoever_is_killed_at_any_moment_runs_it_again(
    tmp_path: Path, long: bool, figures: Figures, shares: bool
) -> None:
    """After each kill the tables are whole and every total is right; then it comes to its end."""
    if shares:
        pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")
        if not long:
            pytest.skip("only with --long")
    kills = 50 if long else 2
    random = Random(4)
    work = tmp_path / "work"
    home = work / "home"
    with EmulatorServer(new_world()) as server:
        reader = new_home(server, home)
    add_outputs(home)
    expected = totals(reader.lake)
    if shared := places(home, shares).shared:
        shared.commit(reader.lake)
    shutil.copytree(work, original := tmp_path / "original", symlinks=True)
    began, steps = run(home, shares)
    assert steps is not None
    ends = dict(zip(began, [*[*began.values()][1:], steps], strict=True))
    parts = [*began] if long else ["days", "search"]
    ended = Counter[str]()
    for number in range(kills):
        shutil.rmtree(work)
        shutil.copytree(original, work, symlinks=True)
        part = parts[number % len(parts)]
        _, done = run(
            home, shares, random.randint(began[part] + 1, max(ends[part], began[part] + 1))
        )
        ended["the end" if done else part] += 1
        lake = Lake(home / "lake")
        assert totals(lake) == expected
        assert forget(lake, places(home, shares), person_of(WHO, None)).proven, number
        assert named_in(work) == [], number
        assert totals(lake) == expected
        require_cleared_up(lake)
        if shared := places(home, shares).shared:
            assert list(shared.verify()) == []
            assert shared.commit(lake) == []  # all of it was committed
    told: Mapping[str, int] = {f"in_{part}": ended[part] for part in sorted(ended)}
    figures(f"kill -9 of forgetting, {'shared' if shares else 'home'}", kills=kills, **told)
    assert ended["the end"] <= kills // 10  # threads take their steps in any order


def totals(lake: Lake) -> dict[str, object]:
    """Each table's rows without users, and without what they wrote, which goes."""
    left_out = {"user_id", "metadata"}
    return {
        name: sorted(repr({key: row[key] for key in row.keys() - left_out}) for row in rows)
        for name, rows in rows_of(lake, DATASETS.keys() - {"item_contents"}).items()
    }
