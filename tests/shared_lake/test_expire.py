"""What no reader of the last day needs is removed, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, expiring, open_shared_lake, table_change
from pipeline.timeline import DAY
from tests.shared_lake.shared import (
    DAYS,
    age,
    catalog_of,
    content,
    loaded,
    reload,
    restated,
    small_world,
)

HOUR = 3_600


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time commits take it to be; tests move it."""
    now = [time.time()]
    monkeypatch.setattr("pipeline.shared_lake.committing.time.time", lambda: now[0])
    return now


def files_in(place: Place) -> set[Path]:
    return {path for path in Path(place.warehouse).rglob("*") if path.is_file()}


def test_a_reader_of_the_last_day_reads_on_and_older_ones_are_forgotten(
    place: Place, tmp_path: Path, clock: list[float]
) -> None:
    of = small_world(1)
    lake = loaded(tmp_path / "one", of, DAYS[:1])
    shared = open_shared_lake(place)
    shared.commit(lake)
    table = catalog_of(place).load_table("mka1_usage.usage_1m")
    rows = table.scan().to_arrow()
    clock[0] += 40 * HOUR
    age(Path(place.warehouse), 40 * HOUR)
    reload(lake, restated(of, DAYS[0]), DAYS[:1])
    shared.commit(lake)  # the first state counted until now
    assert shared.expire(clock[0] + 23 * HOUR).files == 0
    assert table.scan().to_arrow() == rows
    age(Path(place.warehouse), 25 * HOUR)
    expired = shared.expire(clock[0] + 25 * HOUR)
    assert expired.files > 0
    assert expired.snapshots > 0
    with pytest.raises(FileNotFoundError):
        table.scan().to_arrow()
    assert list(shared.verify()) == []
    there = Lake(tmp_path / "there" / "lake")
    shared.hydrate(there)
    assert content(there, DAYS[0]) == content(lake, DAYS[0])
    again = shared.expire(clock[0] + 25 * HOUR)
    assert (again.snapshots, again.files) == (0, 0)


def test_what_a_killed_worker_left_goes_after_a_day(place: Place, tmp_path: Path) -> None:
    shared = open_shared_lake(place)
    shared.commit(loaded(tmp_path / "one", small_world(1), DAYS[:1]))
    before = files_in(place)
    folder = Path(next(iter(shared.files("usage_1m").values()))).parent
    for name in (f"{'0' * 64}.parquet", ".unfinished-0"):
        (folder / name).write_bytes(b"left")
    now = time.time()
    assert shared.expire(now + DAY - HOUR).files == 0
    assert shared.expire(now + DAY + HOUR).files == 2
    assert files_in(place) == before


def test_commits_forget_old_snapshots_themselves(
    place: Place, tmp_path: Path, clock: list[float]
) -> None:
    of = small_world(1)
    lake = loaded(tmp_path / "one", of, DAYS[:1])
    shared = open_shared_lake(place)
    for _ in range(6):
        shared.commit(lake)
        reload(lake, restated(of, DAYS[0], 1), DAYS[:1])
        clock[0] += 20 * HOUR
    table = catalog_of(place).load_table("mka1_usage.usage_1m")
    kept = sorted(one.timestamp_ms for one in table.metadata.snapshots)
    # The last, the one before, and the one that counted until 20 hours before the last.
    assert [round((clock[0] - at / 1_000) / HOUR) for at in kept] == [80, 60, 40, 20][-len(kept) :]
    assert len(kept) == 3
    assert table_change.outdated(table.metadata, table_change.utc(kept[-1] / 1_000)) == []


def test_a_reader_reads_on_though_the_table_lists_its_snapshot_no_more(
    place: Place, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table lists a bounded number of them, however many commits a day has."""
    for module in (table_change, expiring):
        monkeypatch.setattr(module, "KEPT_SNAPSHOTS", 2)
    of = small_world(1)
    lake = loaded(tmp_path / "one", of, DAYS[:1])
    shared = open_shared_lake(place)
    shared.commit(lake)
    age(Path(place.warehouse), 40 * HOUR)
    table = catalog_of(place).load_table("mka1_usage.usage_1m")
    rows = table.scan().to_arrow()
    for _ in range(4):
        clock[0] += 60
        reload(lake, restated(of, DAYS[0], 1), DAYS[:1])
        shared.commit(lake)
    now = catalog_of(place).load_table("mka1_usage.usage_1m")
    assert len(now.metadata.snapshots) == 2 + 1  # that of the last commit
    assert table.current_snapshot() not in now.metadata.snapshots
    shared.expire(clock[0] + HOUR)
    assert table.scan().to_arrow() == rows
    age(Path(place.warehouse), 25 * HOUR)
    assert shared.expire(clock[0] + HOUR).files > 0
    with pytest.raises(FileNotFoundError):
        table.scan().to_arrow()
    assert now.scan().to_arrow().num_rows > 0
    assert list(shared.verify()) == []


def test_a_folder_that_others_use_too_is_left_alone(place: Place, tmp_path: Path) -> None:
    shared = open_shared_lake(place)
    shared.commit(loaded(tmp_path / "one", small_world(1), DAYS[:1]))
    theirs = Path(place.warehouse) / "elsewhere" / "theirs.parquet"
    theirs.parent.mkdir()
    theirs.write_bytes(b"theirs")
    shared.expire(time.time() + 9 * DAY)
    assert theirs.read_bytes() == b"theirs"
