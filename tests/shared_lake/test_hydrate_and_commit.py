"""A home's days become those of the shared lake, and of other homes, byte for byte; never in part.

Iceberg's own library and DuckDB read the tables back: nothing here asks our code what they hold.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pyiceberg.transforms import DayTransform, IdentityTransform

from pipeline.apart import apart, is_apart
from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake import files, user_id_mode
from pipeline.lake.schemas import DATASETS, REVISIONS, USAGE, Column
from pipeline.lake.store import Lake
from pipeline.shared_lake import (
    DaysMovedError,
    Place,
    SharedLakeError,
    copied,
    open_shared_lake,
    tables,
)
from pipeline.timeline import DAY, day_of, day_window
from tests.servers import S3
from tests.shared_lake.shared import (
    DAYS,
    catalog_of,
    content,
    loaded,
    problems,
    reload,
    restated,
    small_world,
)
from tests.synced import Reader
from tests.truth import published, reported


def rows_of(place: Place, name: str) -> pa.Table:
    """A table as pyiceberg reads it."""
    return catalog_of(place).load_table(f"mka1_usage.{name}").scan().to_arrow()


def test_days_go_into_the_shared_lake_and_into_other_homes_byte_for_byte(
    place: Place, tmp_path: Path
) -> None:
    of = small_world()
    here = loaded(tmp_path / "here", of)
    shared = open_shared_lake(place)
    assert shared.days() == []
    assert shared.commit(here) == DAYS
    assert shared.days() == DAYS
    there = Lake(tmp_path / "there" / "lake")
    assert open_shared_lake(place).hydrate(there) == DAYS
    for day in DAYS:
        assert content(there, day) == content(here, day)
    assert problems(there) == ()
    assert published(there, "1m", DAYS) == reported(of, "1m", DAYS)
    assert list(shared.verify()) == []
    assert shared.commit(here) == shared.commit(there) == shared.hydrate(there) == []


def test_records_and_days_without_a_date_travel_too(place: Place, tmp_path: Path) -> None:
    start = day_window(DAYS[0]).start
    of = synthetic_world(days=2, users=4, start=start)
    with EmulatorServer(of) as server:
        reader = Reader(server, Lake(tmp_path / "here" / "lake"), DAYS[:2])
        reader.load()
        reader.sync(keep_content=True)
    here = reader.lake
    shared = open_shared_lake(place)
    assert shared.commit(here) == here.all_days()
    there = Lake(tmp_path / "there" / "lake")
    shared.hydrate(there)
    assert there.all_days() == here.all_days()
    for day in here.all_days():
        assert content(there, day) == content(here, day)
    items = rows_of(place, "items")
    assert items.num_rows == len(reader.rows("items")) > 0
    added = {day_of(int(row["added_at"].timestamp())) for row in reader.rows("items")}
    assert {*items.column("day").to_pylist()} == {
        day if day in DAYS[:2] else apart(day) for day in added
    }
    assert any(map(is_apart, here.all_days()))
    assert rows_of(place, "item_contents").num_rows == len(reader.rows("item_contents")) > 0


def test_other_engines_read_the_emulators_sums_from_s3(
    place_on_s3: Place, store: S3, tmp_path: Path
) -> None:
    of = small_world()
    shared = open_shared_lake(place_on_s3)
    shared.commit(loaded(tmp_path / "here", of))
    expected = sum(row[-1] or 0 for row in reported(of, "1m", DAYS))
    for width in ("1m", "1h", "1d"):
        table = rows_of(place_on_s3, f"usage_{width}")
        assert sum(value or 0 for value in table.column("num_operations").to_pylist()) == expected
    there = Lake(tmp_path / "there" / "lake")
    shared.hydrate(there)
    assert published(there, "1h", DAYS) == reported(of, "1h", DAYS)
    assert list(shared.verify()) == []
    objects, planned = store.files(), shared.files("usage_1d").values()
    rows = [pq.read_table(path.removeprefix("s3://"), filesystem=objects) for path in planned]
    with duckdb.connect() as con:
        con.register("planned", pa.concat_tables(rows))
        found = con.execute("SELECT sum(num_operations) FROM planned").fetchone()
    assert found == (expected,)


def test_a_table_is_the_contract_with_ids_comments_partitions_and_order(
    place: Place, tmp_path: Path
) -> None:
    start = day_window(DAYS[0]).start
    with EmulatorServer(synthetic_world(days=1, users=3, start=start)) as server:
        reader = Reader(server, Lake(tmp_path / "lake"), DAYS[:1])
        reader.load()
        reader.sync(keep_content=True)
    open_shared_lake(place).commit(reader.lake)
    catalog = catalog_of(place)
    names = [name for _, name in catalog.list_tables("mka1_usage")]
    assert {"usage_1m", "coverage", "revisions", "items", "item_contents"} < {*names}
    for name in set(names) - {"published_days"}:
        dataset, table = DATASETS[name], catalog.load_table(f"mka1_usage.{name}")
        columns = {one.name: one for one in table.schema().fields}
        assert {**dict.fromkeys(columns), **dataset.field_ids}.items() >= dataset.field_ids.items()
        for column in dataset.columns:
            assert columns[column.name].doc == column.description
            assert columns[column.name].field_id == dataset.field_ids[column.name]
        path = reader.lake.file(name, DAYS[0])
        assert path is not None
        ids = {
            field.name: int(field.metadata[b"PARQUET:field_id"]) for field in pq.read_schema(path)
        }
        assert ids == dataset.field_ids
        [partition] = table.spec().fields
        if dataset.partitioned_by is None:
            assert isinstance(partition.transform, IdentityTransform)
            assert {*columns} - {*dataset.field_ids} == {"day"}
        else:
            assert isinstance(partition.transform, DayTransform)
            assert partition.source_id == dataset.field_ids[dataset.partitioned_by]
        first = table.sort_order().fields[0]
        assert first.source_id == dataset.field_ids[dataset.columns[0].name]
        assert "Grain: " in table.properties["comment"]


def test_a_commit_is_refused_where_a_day_has_moved_and_changes_nothing(
    place: Place, tmp_path: Path
) -> None:
    of = small_world()
    one, other = loaded(tmp_path / "one", of), Lake(tmp_path / "other" / "lake")
    shared = open_shared_lake(place)
    shared.commit(one)
    shared.hydrate(other)
    reload(one, restated(of, DAYS[1]), DAYS)
    reload(other, restated(of, DAYS[2], 5), DAYS)  # both days, now
    assert shared.commit(one) == [DAYS[1]]
    stood = {day: shared.files("usage_1m", [day]) for day in DAYS}
    with pytest.raises(DaysMovedError, match="2024-01-02") as refused:
        shared.commit(other)
    assert refused.value.days == [DAYS[1]]
    assert {day: shared.files("usage_1m", [day]) for day in DAYS} == stood
    assert list(shared.verify()) == []
    assert shared.hydrate(other, refused.value.days) == [DAYS[1]]
    reload(other, of, refused.value.days)
    assert shared.commit(other) == [DAYS[2]]
    shared.hydrate(one)
    assert published(one, "1m", DAYS) == reported(of, "1m", DAYS)


def test_a_restatement_after_hydrating_is_in_revisions_once(place: Place, tmp_path: Path) -> None:
    of = small_world()
    shared = open_shared_lake(place)
    shared.commit(loaded(tmp_path / "one", of))
    other = Lake(tmp_path / "other" / "lake")
    shared.hydrate(other, DAYS[:1])
    assert other.all_days() == DAYS[:1]
    reload(other, restated(of, DAYS[0]), DAYS[:1])
    assert shared.commit(other) == DAYS[:1]
    rows = rows_of(place, REVISIONS.name).to_pylist()
    assert [row["new_value"] - row["old_value"] for row in rows] == [7]


def test_what_was_done_here_since_stays_until_the_day_moves(place: Place, tmp_path: Path) -> None:
    """A worker that was killed after its load finds its work again."""
    of = small_world()
    shared = open_shared_lake(place)
    one = loaded(tmp_path / "one", of)
    shared.commit(one)
    reload(one, restated(of, DAYS[0]), DAYS)
    work = content(one, DAYS[0])
    assert shared.hydrate(one) == []
    assert content(one, DAYS[0]) == work
    assert shared.commit(one) == DAYS[:1]
    other = Lake(tmp_path / "other" / "lake")
    shared.hydrate(other)
    reload(other, restated(of, DAYS[0], 1), DAYS[:1])
    reload(one, of, DAYS[:1])
    shared.commit(other)
    assert shared.hydrate(one) == DAYS[:1]
    assert content(one, DAYS[0]) == content(other, DAYS[0])


def test_a_home_that_began_without_it_pushes_days_that_the_shared_lake_lacks(
    place: Place, tmp_path: Path
) -> None:
    of = small_world()
    shared = open_shared_lake(place)
    shared.commit(loaded(tmp_path / "one", of, DAYS[:1]))
    other = loaded(tmp_path / "other", of)
    with pytest.raises(DaysMovedError):
        shared.commit(other)
    assert shared.commit(other, DAYS[1:]) == DAYS[1:]
    assert shared.days() == DAYS


def test_rows_of_another_day_are_never_committed(place: Place, tmp_path: Path) -> None:
    lake = loaded(tmp_path / "one", small_world(), DAYS[:1])
    shared = open_shared_lake(place)
    shared.commit(lake)
    path = tmp_path / "wrong.parquet"
    at = datetime.fromtimestamp(day_window(DAYS[1]).start, UTC)
    row = {"start_time": at, "end_time": at, "num_operations": 1}
    wrong = pa.Table.from_pylist([row], schema=USAGE["1d"].schema)
    files.write(USAGE["1d"], wrong.to_batches(), path, day_window(DAYS[0]))
    with pytest.raises(SharedLakeError, match="usage_1d of 2024-01-01 has a row of 2024-01-02"):
        shared.replace({DAYS[0]: {"usage_1d": path}})
    assert list(shared.verify()) == []


def test_other_files_of_a_published_day_are_one_commit_without_hydrating_it(
    place: Place, tmp_path: Path
) -> None:
    lake = loaded(tmp_path / "one", small_world())
    shared = open_shared_lake(place)
    shared.commit(lake)
    same = {day: {"usage_1h": lake.file("usage_1h", day) or tmp_path} for day in DAYS}
    assert shared.replace(same) == []
    empty = tmp_path / "empty.parquet"
    files.write(USAGE["1h"], (), empty, day_window(DAYS[0]))
    assert shared.replace({**same, DAYS[0]: {"usage_1h": empty}}) == DAYS[:1]
    assert sorted(shared.files("usage_1h")) == DAYS[1:]
    counted = [
        row["rows"]
        for row in rows_of(place, "coverage").to_pylist()
        if row["dataset"] == "usage_1h" and row["start_time"].date() == DAYS[0]
    ]
    assert counted == [0] * 24
    assert list(shared.verify()) == []
    with pytest.raises(SharedLakeError, match="2024-02-01 is not published"):
        shared.replace({date(2024, 2, 1): {"usage_1h": empty}})


def test_verify_names_what_was_changed_removed_or_added(place: Place, tmp_path: Path) -> None:
    lake = loaded(tmp_path / "one", small_world())
    shared = open_shared_lake(place)
    shared.commit(lake)
    [one, two, _] = shared.files("usage_1m").values()
    Path(one).write_bytes(Path(one).read_bytes()[:-1])
    Path(two).unlink()
    table = catalog_of(place).load_table("mka1_usage.usage_1d")
    table.delete("start_time >= '2024-01-03T00:00:00+00:00'")
    found = {(problem.day, str(problem)) for problem in shared.verify()}
    assert {day for day, _ in found} == {*DAYS}
    words = " ".join(text for _, text in found)
    assert f"{one}: changed" in words
    assert f"{two}: removed" in words
    assert "mka1_usage.usage_1d: it has no file for 2024-01-03" in words
    assert [problem.day for problem in shared.verify([DAYS[2]])] == [DAYS[2]]
    with pytest.raises(SharedLakeError, match="is not what its manifest says"):
        shared.hydrate(Lake(tmp_path / "there" / "lake"), DAYS[:1])


def test_loading_a_damaged_day_again_heals_it(place: Place, tmp_path: Path) -> None:
    of = small_world()
    lake = loaded(tmp_path / "one", of)
    shared = open_shared_lake(place)
    shared.commit(lake)
    [one, *_] = shared.files("usage_1m").values()
    Path(one).unlink()
    reload(lake, restated(of, DAYS[0]), DAYS[:1])
    shared.commit(lake)
    assert list(shared.verify()) == []


def test_user_ids_are_of_one_kind_in_all_homes(place: Place, tmp_path: Path) -> None:
    lake = loaded(tmp_path / "one", small_world())
    shared = open_shared_lake(place)
    shared.commit(lake)
    there = Lake(tmp_path / "there" / "lake")
    shared.hydrate(there)
    assert user_id_mode.claimed(there) == (None,)
    other = Lake(tmp_path / "pseudonyms" / "lake")
    user_id_mode.claim(other, "0123abcd")
    with pytest.raises(SharedLakeError, match=r"user ids as they are, and .* 0123abcd"):
        shared.hydrate(other)


def test_a_copy_says_when_it_was_pulled_and_from_where(place: Place, tmp_path: Path) -> None:
    lake = loaded(tmp_path / "one", small_world())
    shared = open_shared_lake(place)
    shared.commit(lake)
    assert copied(lake) is None
    there = Lake(tmp_path / "there" / "lake")
    shared.hydrate(there, DAYS[:1])
    assert copied(there) is None
    shared.hydrate(there)
    copy = copied(there)
    assert copy is not None
    assert copy.catalog == place.shown
    assert abs(copy.at - datetime.now(UTC).timestamp()) < DAY


@pytest.mark.parametrize("text", ["", "{", "[]", '{"days": 1}'])
def test_a_home_that_lost_what_it_knew_hydrates_anew(
    place: Place, tmp_path: Path, text: str
) -> None:
    of = small_world()
    lake = loaded(tmp_path / "one", of)
    shared = open_shared_lake(place)
    shared.commit(lake)
    (lake.root / ".shared.json").write_text(text)
    assert shared.commit(lake) == []  # the same days stand there
    (lake.root / ".shared.json").write_text(text)
    reload(lake, restated(of, DAYS[0]), DAYS[:1])
    with pytest.raises(DaysMovedError):
        shared.commit(lake)
    assert shared.hydrate(lake) == DAYS
    assert shared.commit(lake) == []


@pytest.mark.parametrize(
    ("catalog", "warehouse", "words"),
    [
        ("sqlite:////nowhere/at/all.db", "/tmp", "the catalog sqlite:////nowhere/at/all.db can't"),
        (
            "postgresql://me:secret@127.0.0.1:1/db",
            "/tmp",
            "the catalog postgresql://127.0.0.1:1/db",
        ),
        ("http://me:secret@127.0.0.1:1", "/tmp", "the catalog http://127.0.0.1:1 can't be used"),
    ],
)
def test_a_catalog_that_is_not_there_is_one_line_without_its_password(
    catalog: str, warehouse: str, words: str
) -> None:
    with pytest.raises(SharedLakeError) as failed:
        open_shared_lake(Place(catalog, warehouse)).days()
    assert str(failed.value).startswith(words)
    assert "secret" not in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "secret" not in repr(Place(catalog, warehouse))


def test_a_bucket_that_is_not_there_is_one_line(place_on_s3: Place, tmp_path: Path) -> None:
    lake = loaded(tmp_path / "one", small_world(), DAYS[:1])
    nowhere = Place(place_on_s3.catalog, "s3://no-such-bucket/lake")
    with pytest.raises(SharedLakeError, match="the warehouse s3://no-such-bucket/lake can't"):
        open_shared_lake(nowhere).commit(lake)


def test_a_new_column_of_the_contract_comes_to_the_table(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = small_world()
    lake = loaded(tmp_path / "one", of)
    shared = open_shared_lake(place)
    shared.commit(lake)
    more = Column("num_more", pa.int64(), "More of it.")
    new = replace(USAGE["1d"], columns=(*USAGE["1d"].columns, more))
    monkeypatch.setitem(tables.TABLES, "usage_1d", new)
    reload(lake, restated(of, DAYS[0]), DAYS[:1])
    shared.commit(lake)
    table = catalog_of(place).load_table("mka1_usage.usage_1d")
    column = table.schema().find_field("num_more")
    assert (column.field_id, column.doc) == (new.field_ids["num_more"], "More of it.")
    assert table.scan().to_arrow().column("num_more").null_count > 0


def test_a_column_is_never_read_by_the_id_of_another(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = small_world(1)
    lake = loaded(tmp_path / "one", of, DAYS[:1])
    shared = open_shared_lake(place)
    shared.commit(lake)
    first, *rest = USAGE["1d"].columns
    new = replace(USAGE["1d"], columns=(Column("num_more", pa.int64(), "More."), first, *rest))
    monkeypatch.setitem(tables.TABLES, "usage_1d", new)
    reload(lake, restated(of, DAYS[0]), DAYS[:1])
    with pytest.raises(SharedLakeError, match="usage_1d has column start_time by another id"):
        shared.commit(lake)


def test_files_of_days_loaded_before_files_had_ids_are_read_by_name(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = small_world()
    with monkeypatch.context() as before:
        before.setattr(files, "_with_ids", lambda dataset: dataset.schema)
        lake = loaded(tmp_path / "one", of)
    versions = {day: lake.version(day) for day in DAYS}
    reload(lake, of, DAYS)
    assert {day: lake.version(day) for day in DAYS} == versions  # the same day, as it stands
    open_shared_lake(place).commit(lake)
    total = sum(row[-1] or 0 for row in reported(of, "1d", DAYS))
    assert sum(rows_of(place, "usage_1d").column("num_operations").to_pylist()) == total
