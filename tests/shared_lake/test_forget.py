"""Whoever is forgotten is in no table, snapshot and file of the shared lake, and stays so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.emulator import EmulatorServer
from pipeline.forget import forget, person_of
from pipeline.lake.forgotten import begin, forgotten
from pipeline.lake.retention import prune
from pipeline.lake.store import Lake
from pipeline.retention import Retention
from pipeline.shared_lake import Place, SharedLakeError, open_shared_lake
from pipeline.shared_lake.committed import committed
from pipeline.timeline import DAY, day_window
from tests.forget.people import DAYS, WHO, named_in, new_world, places_of
from tests.shared_lake.shared import catalog_of, content
from tests.synced import Reader
from tests.torture.search import everything, finds


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(new_world()) as server:
        yield server


@pytest.mark.slow
def test_old_snapshots_go_at_once_and_other_workers_do_not_bring_them_back(
    server: EmulatorServer, place: Place, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("each table's snapshots are read one by one: only with --long")
    home = tmp_path / "home"
    reader = Reader(server, Lake(home / "lake"), DAYS)
    reader.load()
    shared = open_shared_lake(place)
    shared.commit(reader.lake)
    reader.sync()
    shared.commit(reader.lake)
    assert named_in(Path(place.warehouse))
    places = places_of(home)
    outcome = forget(
        reader.lake,
        type(places)(places.home, places.catalog, places.export_dir, places.dagster_home, shared),
        person_of(WHO, None),
    )
    assert outcome.proven
    assert named_in(Path(place.warehouse)) == []
    assert list(shared.verify()) == []
    table = catalog_of(place).load_table("mka1_usage.usage_1d")
    assert len(table.metadata.snapshots) == 1
    assert WHO not in table.scan().to_arrow().column("user_id").to_pylist()

    other = Reader(server, Lake(tmp_path / "other" / "lake"), DAYS)
    shared.hydrate(other.lake)
    assert forgotten(other.lake).name_of(WHO) == outcome.name
    before = {day: content(other.lake, day)["usage_1m.parquet"] for day in DAYS}
    other.load()
    other.sync(full=True)
    assert {day: content(other.lake, day)["usage_1m.parquet"] for day in DAYS} == before
    assert not any(finds(texts, WHO) for texts in everything(tmp_path / "other").values())
    shutil.rmtree(tmp_path / "other")


@pytest.mark.slow
def test_what_is_not_kept_is_dropped_for_all_workers(
    server: EmulatorServer, place: Place, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "home" / "lake")
    Reader(server, lake, DAYS).load()
    shared = open_shared_lake(place)
    shared.commit(lake)
    now = float(day_window(DAYS[-1]).start + 40 * DAY)
    with committed(shared, lake, lambda: None):
        prune(lake, Retention(minutes=40), now)
    assert list(shared.files("usage_1m")) == [DAYS[1]]
    assert list(shared.files("usage_1h")) == DAYS
    assert list(shared.verify()) == []
    other = Lake(tmp_path / "other" / "lake")
    shared.hydrate(other)
    assert other.days("usage_1m") == [DAYS[1]]


@pytest.mark.slow
def test_a_worker_that_had_loaded_them_meanwhile_commits_nothing_of_theirs(
    server: EmulatorServer, place: Place, tmp_path: Path
) -> None:
    """It has begun before they were forgotten, and knows nothing of it."""
    late = Reader(server, Lake(tmp_path / "late" / "lake"), DAYS[1:])
    late.load()
    first = Lake(tmp_path / "home" / "lake")
    Reader(server, first, DAYS[:1]).load()
    shared = open_shared_lake(place)
    shared.commit(first)
    begin(first, WHO)
    shared.tell_forgotten(first)
    with pytest.raises(
        SharedLakeError,
        match="somebody who was forgotten in the shared lake has rows on 2024-01-02",
    ):
        shared.commit(late.lake)
    assert shared.days() == DAYS[:1]
