"""A disk that is full at any write: the day stays as it was, the error says so, nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.emulator import EmulatorServer
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.torture.conftest import Figures
from tests.torture.readers import disagreements, of_pyarrow
from tests.torture.scenes import Worker, days, exact, require_whole, world
from tests.truth import digests


def test_a_disk_that_is_full_at_any_write_leaves_whole_days(
    tmp_path: Path, long: bool, figures: Figures
) -> None:
    """No file may grow beyond a limit, which goes from nothing to what the largest needs."""
    asked = days(2)
    with EmulatorServer(world(2)) as server, Worker() as worker:
        older = Lake(tmp_path / "older" / "lake")
        assert worker.load(server, older.root, asked) == "done"
        totals = of_pyarrow(older.root, asked[0])["usage_1d"]
        server.world.restate(day_window(asked[0]).start, "ada", "key_a", operations=9)
        clean = Lake(tmp_path / "clean" / "lake")
        assert worker.load(server, clean.root, asked) == "done"
        expected = digests(clean.root)
        largest = max(path.stat().st_size for path in clean.root.parent.rglob("*.*"))
        steps = 120 if long else 9
        failed = torn = whole = 0
        for step in range(steps):
            home = tmp_path / str(step)
            shutil.copytree(older.root.parent, home, symlinks=True)
            lake = Lake(home / "lake")
            limit = step * largest * 11 // (10 * steps)
            answer = worker.load(server, lake.root, asked, largest_file=limit)
            failed += answer != "done"
            for day in asked:
                torn += len(disagreements(lake.root, day))
            assert of_pyarrow(lake.root, asked[0])["usage_1d"] in {totals, totals + 9}
            if answer == "done":
                assert exact(lake, server.world, asked)
            else:
                assert "too large" in answer or "space" in answer.lower(), answer
            assert worker.load(server, lake.root, asked) == "done"
            require_whole(lake, expected)
            whole += exact(lake, server.world, asked)
            shutil.rmtree(home)
    figures("full disk", limits=steps, failed_clearly=failed, torn_days=torn, identical_after=whole)
    assert failed > steps // 2
    assert (torn, whole) == (0, steps)
