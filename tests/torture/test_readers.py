"""A reader never sees half of anything, and nobody waits for anybody."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

from pipeline.emulator import EmulatorServer
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.benchmarks.measure import REPOSITORY
from tests.bounded import LONG, started
from tests.torture.conftest import Figures
from tests.torture.readers import of_pyarrow
from tests.torture.scenes import Worker, days, world


def test_readers_in_four_processes_see_whole_days_while_they_are_republished(
    tmp_path: Path, long: bool, figures: Figures
) -> None:
    """One of two days is restated and loaded again and again, and the catalog built anew."""
    republished, reads = (200, 2_500) if long else (12, 120)
    asked = days(2)
    lake = Lake(tmp_path / "home" / "lake")
    with EmulatorServer(world(2)) as server, Worker() as worker, ExitStack() as stack:
        assert worker.load(server, lake.root, asked) == "done"
        minute = day_window(asked[0]).start + 3_600
        total = of_pyarrow(lake.root, asked[0])["usage_1d"]
        allowed = ",".join(str(total + number) for number in range(republished + 1))
        command = [
            *(sys.executable, "-m", "tests.torture.readers"),
            *(lake.root, str(asked[0]), str(reads), allowed),
        ]
        readers = [
            stack.enter_context(
                started(command, seconds=LONG, cwd=REPOSITORY, stdin=PIPE, stdout=PIPE)
            )
            for _ in range(4)
        ]
        for reader in readers:
            assert reader.stdout is not None
            assert json.loads(reader.stdout.readline()) == "ready"
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write("\n")
            reader.stdin.flush()
        for _ in range(republished):
            server.world.restate(minute, "ada", "key_a", operations=1)
            assert worker.load(server, lake.root, asked[:1]) == "done"
        seen = [json.loads(reader.communicate(timeout=LONG)[0]) for reader in readers]
    assert of_pyarrow(lake.root, asked[0])["usage_1h"] == total + republished
    figures(
        "readers",
        republished=republished,
        reads=sum(one["reads"] for one in seen),
        errors=sum(one["failed"] for one in seen),
        disagreements=sum(one["differing"] for one in seen),
        wrong=sum(one["wrong"] for one in seen),
        versions_seen=len(set().union(*(one["seen"] for one in seen))),
    )
    assert [one["errors"] for one in seen] == [[]] * 4
    assert [(one["differing"], one["wrong"]) for one in seen] == [(0, 0)] * 4
