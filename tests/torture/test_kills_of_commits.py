"""A commit of several days may be killed at any step, and so may the one that comes after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from datetime import date, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Final

import pytest

from pipeline.lake import engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.commit import Change, publish_days, restore_links
from pipeline.lake.store import Lake
from tests.bounded import copied
from tests.conversations.staged import stage
from tests.lake.served import DAY
from tests.torture.conftest import Figures
from tests.torture.scenes import catalog_of, require_cleared_up
from tests.torture.steps import count_steps, moments
from tests.truth import digests

NEW: Final = (DAY - timedelta(days=1), DAY, DAY + timedelta(days=1))
"""The days of a commit; the first and the last have no version before it."""


def commit(lake: Lake, days: Sequence[date], operations: int) -> None:
    """Publish two tables of each day at one stroke."""
    with lake.staging() as folder, closing(engine.connect(threads=1)) as con:
        staged = {day: stage(folder / f"{day}", operations) for day in days}
        changes = {
            day: Change({name: files[name] for name in ("usage_1m", "usage_1d")})
            for day, files in staged.items()
        }
        publish_days(con, lake, changes)


def commit_in(tasks: Connection) -> None:
    """Commit in a lake, up to a step on the disk; sends how many steps there were."""
    root, days, last = tasks.recv()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # as in tests/conftest.py: nobody takes the power away
        steps = count_steps(last)
        commit(Lake(root), days, operations=2)
        tasks.send(steps())


def run(lake: Lake, days: Sequence[date], last: int | None) -> int | None:
    """Commit in another process: all its steps, or None if it was killed."""
    with copied(commit_in) as (_, tasks):
        tasks.send((lake.root, days, last))
        try:
            return int(tasks.recv())
        except (EOFError, ConnectionResetError):
            return None


@pytest.mark.parametrize("days", [NEW, NEW[:1], NEW[1:2]], ids=["several", "a new one", "an old"])
def test_a_commit_that_is_killed_at_any_step_has_changed_all_days_or_none(
    tmp_path: Path, long: bool, figures: Figures, days: Sequence[date]
) -> None:
    """Also where the next one is killed too: without another, nothing is there of either that does
    not count, and what counts has its links."""
    before, after = Lake(tmp_path / "before" / "lake"), Lake(tmp_path / "after" / "lake")
    for lake in (before, after):
        commit(lake, [DAY], operations=1)
    steps = run(after, days, None)
    assert steps is not None
    states = [digests(lake.root) for lake in (before, after)]
    random = Random(3)
    firsts = range(1, steps + 1) if long else moments(16, steps, random)
    ended = [0, 0]
    for number, first in enumerate(firsts):
        home = tmp_path / "home"
        shutil.copytree(before.root.parent, home, symlinks=True)
        lake = Lake(home / "lake")
        assert run(lake, days, first) is None
        if number % 2:
            run(lake, days, random.randint(1, steps))
        restore_links(lake)  # as each run does at its end
        build_catalog(lake, catalog_of(lake))
        found = digests(lake.root)
        assert found in states, f"step {first}"
        ended[states.index(found)] += 1
        require_cleared_up(lake)
        shutil.rmtree(home)
    figures(
        f"kill -9 of a commit of {len(days)}", kills=sum(ended), before=ended[0], after=ended[1]
    )
    assert all(ended)
