"""Workers side by side, and workers that are killed: no day is lost, none is seen in part."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.emulator import EmulatorServer
from pipeline.lake.store import Lake
from pipeline.shared_lake import DaysMovedError, Place, committing, open_shared_lake
from tests.bounded import finished, started
from tests.servers import S3
from tests.shared_lake.shared import (
    DAYS,
    catalog_of,
    content,
    loaded,
    reload,
    restated,
    small_world,
)
from tests.torture.scenes import days
from tests.truth import published, reported

ROOT = Path(__file__).parents[2]


def task(server: EmulatorServer, place: Place, home: Path, days: list[date], **more: Any) -> str:
    return json.dumps(
        {
            "base_url": server.base_url,
            "key": server.api_key,
            "now": server.world.clock(),
            "catalog": place.catalog,
            "warehouse": place.warehouse,
            "home": str(home),
            "days": [day.isoformat() for day in days],
            **more,
        }
    )


def command(words: str) -> list[str]:
    return [sys.executable, "-m", "tests.shared_lake.worker", words]


def days_in(place: Place, name: str) -> set[str]:
    """The days of which a table has rows, as Polars reads it."""
    table = catalog_of(place).load_table(f"mka1_usage.{name}")
    rows = pl.scan_iceberg(table).select(pl.col("start_time").dt.date().unique())
    return {str(day) for day in rows.collect().to_series()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Iceberg scan planning")
def test_two_workers_on_the_same_days_lose_none_and_readers_see_no_half_of_one(
    place_on_s3: Place, store: S3, tmp_path: Path
) -> None:
    of = small_world(6)
    six = days(6)
    with EmulatorServer(of) as server:
        words = [
            task(server, place_on_s3, tmp_path / name, asked)
            for name, asked in (("one", six[:4]), ("other", six[2:]))
        ]
        with (
            started(command(words[0]), cwd=ROOT) as one,
            started(command(words[1]), cwd=ROOT) as other,
        ):
            seen = 0
            while one.poll() is None or other.poll() is None:
                shared = open_shared_lake(place_on_s3)
                published_days = {str(day) for day in shared.days()}
                tables = [
                    days_in(place_on_s3, name)
                    for name in ("usage_1m", "usage_1h", "coverage")
                    if published_days
                ]
                assert all(published_days <= found for found in tables)
                seen += 1
            assert (one.wait(60), other.wait(60), seen > 0) == (0, 0, True)
    shared = open_shared_lake(place_on_s3)
    assert shared.days() == six
    assert list(shared.verify()) == []
    lake = Lake(tmp_path / "reader" / "lake")
    shared.hydrate(lake)
    assert published(lake, "1m", six) == reported(of, "1m", six)
    total = sum(row[-1] or 0 for row in reported(of, "1m", six))
    table = catalog_of(place_on_s3).load_table("mka1_usage.usage_1d")
    assert pl.scan_iceberg(table).select(pl.col("num_operations").sum()).collect().item() == total


@pytest.mark.parametrize("killed_at", ["uploaded", "metadata written"])
def test_a_worker_killed_between_upload_and_commit_leaves_all_days_as_they_were(
    place: Place, tmp_path: Path, killed_at: str
) -> None:
    of = small_world()
    first = loaded(tmp_path / "first", of, DAYS[:2])
    shared = open_shared_lake(place)
    shared.commit(first)
    stood = {name: shared.files(name) for name in ("usage_1m", "usage_1d", "coverage")}
    restated(of, DAYS[1])
    with EmulatorServer(of) as server:
        home = tmp_path / "killed"
        words = task(server, place, home, DAYS, killed_at=killed_at)
        killed = finished(command(words), cwd=ROOT, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert {name: shared.files(name) for name in stood} == stood
        assert list(shared.verify()) == []
        before = shared.expire(time.time())
        assert (before.files, before.snapshots) == (0, 0)  # it might have been about to commit
        again = finished(command(task(server, place, home, DAYS)), cwd=ROOT)
    assert again.stdout.strip() == "1"
    assert shared.days() == DAYS
    lake = Lake(tmp_path / "reader" / "lake")
    shared.hydrate(lake)
    assert published(lake, "1m", DAYS) == reported(of, "1m", DAYS)


def test_commits_of_other_days_at_the_same_moment_all_count(place: Place, tmp_path: Path) -> None:
    """Each thread is a worker with a home of its own, and a catalog of its own."""
    of, asked = small_world(8), days(8)
    homes = [loaded(tmp_path / day.isoformat(), of, [day]) for day in asked]
    together = threading.Barrier(len(homes))
    failures: list[Exception] = []

    def commit(lake: Lake) -> None:
        shared = open_shared_lake(place)
        together.wait(60)
        try:
            shared.commit(lake)
        except Exception as error:  # noqa: BLE001  it is told below
            failures.append(error)

    threads = [threading.Thread(target=commit, args=(lake,)) for lake in homes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    shared = open_shared_lake(place)
    assert shared.days() == asked
    assert list(shared.verify()) == []


def test_of_two_commits_of_one_day_one_is_refused(place: Place, tmp_path: Path) -> None:
    of = small_world(1)
    one, other = (Lake(tmp_path / name / "lake") for name in ("one", "other"))
    shared = open_shared_lake(place)
    shared.commit(loaded(tmp_path / "first", of, DAYS[:1]))
    outcomes: list[object] = []
    for number, lake in enumerate((one, other)):
        shared.hydrate(lake)
        reload(lake, restated(of, DAYS[0], number + 1), DAYS[:1])
    together = threading.Barrier(2)

    def commit(lake: Lake) -> None:
        worker = open_shared_lake(place)
        together.wait(60)
        try:
            outcomes.append(worker.commit(lake))
        except Exception as error:  # noqa: BLE001  it is told below
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=commit, args=(lake,)) for lake in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(map(str, outcomes)) == ["DaysMovedError", str(DAYS[:1])]
    assert list(shared.verify()) == []


def test_a_commit_that_comes_while_files_are_uploaded_is_never_overwritten(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day was looked at before that, and stood as it was hydrated."""
    of = small_world(1)
    shared = open_shared_lake(place)
    shared.commit(loaded(tmp_path / "first", of, DAYS[:1]))
    slow, fast = (Lake(tmp_path / name / "lake") for name in ("slow", "fast"))
    for number, lake in enumerate((slow, fast)):
        shared.hydrate(lake)
        reload(lake, restated(of, DAYS[0], number + 1), DAYS[:1])
    commits = committing.Committing._commits

    def after_another(self: committing.Committing, *ready: Any) -> Any:
        monkeypatch.setattr(committing.Committing, "_commits", commits)
        open_shared_lake(place).commit(fast)
        return commits(self, *ready)

    monkeypatch.setattr(committing.Committing, "_commits", after_another)
    with pytest.raises(DaysMovedError):
        shared.commit(slow)
    reader = Lake(tmp_path / "reader" / "lake")
    shared.hydrate(reader)
    assert content(reader, DAYS[0]) == content(fast, DAYS[0])
