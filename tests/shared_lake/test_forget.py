"""Whoever is forgotten is in no table, snapshot and file of the shared lake, and stays so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table

from pipeline.emulator import EmulatorServer
from pipeline.forget import Places, forget, person_of
from pipeline.forget.days import redo_days
from pipeline.lake.forgotten import begin, forgotten
from pipeline.lake.retention import prune
from pipeline.lake.schemas import RECORD_DATASETS
from pipeline.lake.store import Lake
from pipeline.retention import Retention
from pipeline.shared_lake import Place, SharedLakeError, open_shared_lake, tables
from pipeline.shared_lake.catalogs import SharedCatalog, SharedSqlCatalog, TableCommit
from pipeline.shared_lake.committed import committed
from pipeline.shared_lake.shared import SharedLake
from pipeline.timeline import DAY, day_window
from tests.forget.people import DAYS, WHO, new_world, places_of
from tests.servers import BUCKET, S3
from tests.shared_lake.shared import catalog_of, content, objects_naming
from tests.synced import Reader, rows_of
from tests.torture.search import everything, finds

BOUND = WHO[:15]
"""What a list of entries says of the greatest id of a file: 16 characters, the last one raised."""


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(new_world()) as server:
        yield server


def shared_places(home: Path, shared: SharedLake) -> Places:
    """All places of a home that shares its lake."""
    return replace(places_of(home), shared=shared)


def test_lists_of_entries_say_no_values_of_files_that_were_replaced(
    server: EmulatorServer, place: Place, tmp_path: Path
) -> None:
    """They would keep the least and the greatest id, in the snapshot that stands."""
    lake = Lake(tmp_path / "home" / "lake")
    Reader(server, lake, DAYS[:1]).load()
    shared = open_shared_lake(place)
    shared.commit(lake)
    redo_days(lake, person_of(WHO, None), begin(lake, WHO), lambda _: None)
    shared.commit(lake)
    table = catalog_of(place).load_table("mka1_usage.usage_1d")
    snapshot = table.current_snapshot()
    assert snapshot is not None
    lists = [one.fetch_manifest_entry(table.io, False) for one in snapshot.manifests(table.io)]
    bounds = {entry.status: entry.data_file.upper_bounds for of in lists for entry in of}
    assert bounds[ManifestEntryStatus.DELETED] is None
    assert bounds[ManifestEntryStatus.ADDED]


@pytest.mark.slow
def test_nothing_of_them_is_left_on_s3_and_all_of_it_is_searched(
    server: EmulatorServer, place_on_s3: Place, tmp_path: Path
) -> None:
    """One day, with the lists of entries that name the least and greatest id of each file."""
    home = tmp_path / "home"
    reader = Reader(server, Lake(home / "lake"), DAYS[:1])
    reader.load()
    shared = open_shared_lake(place_on_s3)
    shared.commit(reader.lake)
    beside = f"{BUCKET}/warehouse/.results-1/part-0.csv"
    with S3(os.environ["AWS_ENDPOINT_URL"]).files().open_output_stream(beside) as left:
        left.write(WHO.encode())
    there = objects_naming(place_on_s3, tmp_path / "copy", BOUND)
    assert {path.rpartition(".")[2] for path in there} == {"parquet", "avro", "csv"}
    outcome = forget(reader.lake, shared_places(home, shared), person_of(WHO, None))
    assert outcome.searched.found == {f"s3://{beside}": [1]}
    assert outcome.searched.kinds["Avro"] > 10
    assert objects_naming(place_on_s3, tmp_path / "copy", BOUND) == [".results-1/part-0.csv"]
    assert list(shared.verify()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
@pytest.mark.parametrize("where", ["place", "place_on_s3"])
def test_old_snapshots_go_at_once_and_other_workers_do_not_bring_them_back(
    server: EmulatorServer, where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each table's snapshots are read one by one."""
    place: Place = request.getfixturevalue(where)
    home = tmp_path / "home"
    reader = Reader(server, Lake(home / "lake"), DAYS)
    reader.load()
    shared = open_shared_lake(place)
    shared.commit(reader.lake)
    reader.sync()
    shared.commit(reader.lake)
    assert objects_naming(place, tmp_path / "copy", WHO)
    outcome = forget(reader.lake, shared_places(home, shared), person_of(WHO, None))
    assert outcome.proven
    assert objects_naming(place, tmp_path / "copy", BOUND) == []
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
def test_items_are_dropped_for_all_workers_and_what_stands_apart_with_them(
    server: EmulatorServer, place: Place, tmp_path: Path
) -> None:
    reader = Reader(server, Lake(tmp_path / "home" / "lake"), DAYS)
    reader.load()
    reader.sync()
    shared = open_shared_lake(place)
    shared.commit(reader.lake)
    now = float(day_window(DAYS[-1]).start + 40 * DAY)
    with committed(shared, reader.lake, lambda: None):
        prune(reader.lake, Retention(items=40), now)
    assert DAYS[0] not in shared.files("items")
    assert list(shared.verify()) == []
    other = Reader(server, Lake(tmp_path / "other" / "lake"), DAYS)
    shared.hydrate(other.lake)
    before = rows_of(other.lake, RECORD_DATASETS)
    assert before == rows_of(reader.lake, RECORD_DATASETS)
    other.sync(full=True)  # that home has no cursors
    assert rows_of(other.lake, RECORD_DATASETS) == before


@pytest.mark.slow
def test_a_worker_that_had_loaded_them_meanwhile_commits_nothing_of_theirs(
    server: EmulatorServer, place: Place, tmp_path: Path
) -> None:
    """It has begun before they were forgotten, and knows nothing of it; its own run of the command
    puts that right."""
    late = Reader(server, Lake(tmp_path / "late" / "lake"), DAYS[1:])
    late.load()
    first = Lake(tmp_path / "home" / "lake")
    Reader(server, first, DAYS[:1]).load()
    shared = open_shared_lake(place)
    shared.commit(first)
    name = begin(first, WHO)
    shared.tell_forgotten(first)
    with pytest.raises(
        SharedLakeError,
        match="somebody who was forgotten in the shared lake has rows on 2024-01-02",
    ):
        shared.commit(late.lake)
    assert shared.days() == DAYS[:1]
    outcome = forget(late.lake, shared_places(tmp_path / "late", shared), person_of(WHO, None))
    assert (outcome.name, outcome.proven) == (name, True)
    assert shared.days() == DAYS
    assert objects_naming(place, tmp_path / "copy", WHO) == []


def test_each_home_that_forgets_them_gives_them_the_same_name(
    server: EmulatorServer, place: Place, tmp_path: Path
) -> None:
    """Also where it has not heard of it yet: they would count as two people."""
    homes = tmp_path / "one", tmp_path / "other"
    shared = open_shared_lake(place)
    one, other = (Lake(home / "lake") for home in homes)
    Reader(server, one, DAYS[:1]).load()
    shared.commit(one)
    shared.hydrate(other)
    outcomes = [
        forget(lake, shared_places(home, shared), person_of(WHO, None))
        for lake, home in zip((one, other), homes, strict=True)
    ]
    assert [it.proven for it in outcomes] == [True, True]
    assert len({it.name for it in outcomes}) == 1


def test_a_worker_that_commits_while_they_are_forgotten_is_refused_too(
    server: EmulatorServer, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked whom it must not bring back, and they are forgotten a moment later."""
    first, late = (Lake(tmp_path / name / "lake") for name in ("home", "late"))
    Reader(server, first, DAYS[:1]).load()
    Reader(server, late, DAYS[1:]).load()
    shared, other = open_shared_lake(place), open_shared_lake(place)
    shared.commit(first)
    commit_together = SharedSqlCatalog.commit_together

    def forgotten_first(catalog: SharedSqlCatalog, commits: Sequence[TableCommit]) -> None:
        if not forgotten(first):
            begin(first, WHO)
            other.tell_forgotten(first)
        commit_together(catalog, commits)

    monkeypatch.setattr(SharedSqlCatalog, "commit_together", forgotten_first)
    with pytest.raises(SharedLakeError, match="somebody who was forgotten"):
        shared.commit(late)
    assert forgotten(first)
    assert shared.days() == DAYS[:1]


def test_two_homes_that_forget_at_once_both_count(
    server: EmulatorServer, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither list of the forgotten takes the place of the other."""
    one, other = (Lake(tmp_path / name / "lake") for name in ("one", "other"))
    Reader(server, one, DAYS[:1]).load()
    shared = open_shared_lake(place)
    shared.commit(one)
    shared.hydrate(other)
    names = begin(one, "ada"), begin(other, "bob")
    load = tables.load

    def told_meanwhile(catalog: SharedCatalog, name: str) -> Table | None:
        table = load(catalog, name)
        monkeypatch.setattr(tables, "load", load)
        open_shared_lake(place).tell_forgotten(other)
        return table

    monkeypatch.setattr(tables, "load", told_meanwhile)
    shared.tell_forgotten(one)
    third = Lake(tmp_path / "third" / "lake")
    shared.hydrate(third)
    known = forgotten(third)
    assert (known.name_of("ada"), known.name_of("bob")) == names
