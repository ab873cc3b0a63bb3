"""A reader never sees half of anything, and nobody waits for anybody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pipeline.emulator import EmulatorServer
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.benchmarks.measure import REPOSITORY
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
    with EmulatorServer(world(2)) as server, Worker() as worker:
        assert worker.load(server, lake.root, asked) == "done"
        minute = day_window(asked[0]).start + 3_600
        total = of_pyarrow(lake.root, asked[0])["usage_1d"]
        allowed = ",".join(str(total + number) for number in range(republished + 1))
        readers = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.torture.readers"),
                    *(str(lake.root), str(asked[0]), str(reads), allowed),
                ],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        try:
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
            seen = [json.loads(reader.communicate()[0]) for reader in readers]
        finally:
            for reader in readers:
                reader.kill()
                reader.communicate()
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
