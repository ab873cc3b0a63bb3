"""The lake on disk: what is loaded, staging, and what a file is like."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.lake import files
from pipeline.lake.files import ContractError, Loaded
from pipeline.lake.schemas import DATASETS, RAW_USAGE, USAGE
from pipeline.lake.store import Lake, private_folder, remove, spilling
from pipeline.timeline import Window, day_window
from tests.conversations.staged import NAMES, publish, stage, usage_row
from tests.lake.served import (
    DAY,
    MIDNIGHT,
    WINDOW,
    leftovers,
    plant,
    write_rows,
)


def test_days_come_in_order_and_only_where_there_is_a_file(lake: Lake) -> None:
    days = [date(2024, 3, 1), date(2023, 12, 31), DAY]
    for day in days:
        plant(lake, "usage_1d", [], day)
    (lake.root / "usage_1d" / "day=2024-05-05").mkdir()
    assert lake.days("usage_1d") == sorted(days)
    assert lake.days("usage_1h") == []


def test_files_of_asked_days_are_those_that_are_loaded(lake: Lake) -> None:
    loaded = [DAY, DAY + timedelta(days=2)]
    for day in loaded:
        plant(lake, "usage_1d", [], day)
    asked = [DAY + timedelta(days=number) for number in (5, 2, 1, 2)]
    expected = [lake.path("usage_1d", day).resolve() for day in loaded]
    assert lake.files("usage_1d", asked) == [expected[1]]
    assert lake.files("usage_1d") == expected
    assert lake.files("usage_1d", []) == []


def test_a_day_without_usage_is_loaded_and_a_day_never_asked_for_is_not(lake: Lake) -> None:
    plant(lake, "usage_1m", [])
    assert lake.loaded("usage_1m", DAY) == Loaded(WINDOW, rows=0)
    assert lake.loaded("usage_1m", DAY + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("window", "complete"),
    [
        (WINDOW, True),
        (Window(WINDOW.start, WINDOW.end - 60), False),
        (Window(WINDOW.start, WINDOW.start), False),
        (day_window(DAY + timedelta(days=1)), False),
    ],
)
def test_a_day_is_complete_when_all_of_it_was_asked_for(
    lake: Lake, window: Window, complete: bool
) -> None:
    plant(lake, "usage_1d", [usage_row()], window=window)
    loaded = lake.loaded("usage_1d", DAY)
    assert loaded == Loaded(window, rows=1)
    assert loaded.complete(DAY) is complete


def test_a_file_that_the_lake_did_not_write_is_named_when_it_is_asked_what_it_covers(
    lake: Lake,
) -> None:
    plant(lake, "usage_1d", [])
    pq.write_table(USAGE["1d"].schema.empty_table(), lake.path("usage_1d", DAY))
    with pytest.raises(ContractError, match="usage_1d"):
        lake.loaded("usage_1d", DAY)


@pytest.mark.parametrize("name", ["lake", "~", "s3:"])
def test_a_lake_is_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake(Path(name))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    publish(lake)
    assert lake.path("usage_1d", DAY).is_relative_to(tmp_path / name)
    assert lake.days("usage_1d") == [DAY]


# Staging


def test_each_staging_folder_is_ones_own_and_gone_at_the_end(lake: Lake) -> None:
    with lake.staging() as one, lake.staging() as other:
        assert one != other
        (one / "part.parquet").touch()
        assert set(leftovers(lake)) == {one, other}
    assert leftovers(lake) == []


def test_a_load_that_fails_leaves_no_staging_folder(lake: Lake) -> None:
    def fail() -> None:
        with lake.staging() as folder:
            (folder / "part.parquet").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert leftovers(lake) == []


def test_a_page_that_is_still_being_written_when_a_load_fails_leaves_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = os.rmdir
    with lake.staging() as folder:

        def write_late(path: str, *, dir_fd: int | None = None) -> None:
            with suppress(FileNotFoundError):
                (folder / "part-000001.parquet").touch()
            remove(path, dir_fd=dir_fd)

        monkeypatch.setattr(os, "rmdir", write_late)
    assert leftovers(lake) == []


def test_what_killed_loads_left_is_swept_at_once_and_what_runs_is_not(lake: Lake) -> None:
    with lake.staging() as running:
        abandoned = running.with_name("abandoned")
        abandoned.mkdir()
        (abandoned / "part.parquet").touch()
        (abandoned / ".lock").touch()
        with lake.staging():
            assert not abandoned.exists()
            assert running.exists()


def test_what_killed_queries_spilled_is_swept_at_once_and_what_runs_is_not(lake: Lake) -> None:
    with spilling(lake) as running:
        running.mkdir()
        abandoned = running.with_name("spilled-abandoned")
        abandoned.mkdir()
        lock = lake.root / ".locks" / f"{abandoned.name}.lock"
        lock.touch()
        with lake.staging():
            assert not abandoned.exists()
            assert not lock.exists()
            assert running.exists()
    assert leftovers(lake) == []


@pytest.mark.parametrize("folder", [".partial", ".versions", ".catalogs", "days", "usage_1d"])
def test_a_folder_whose_removal_was_killed_half_way_is_removed_by_the_next_run(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    path = lake.root / folder / "2024-01-01"
    private_folder(path)
    (path / "a").touch()
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        remove(path)
    assert [left.name for left in path.parent.iterdir()] == [".removed-2024-01-01"]
    lake.clear_up()
    assert list(path.parent.iterdir()) == []


def test_unfinished_files_are_in_no_readers_way(lake: Lake) -> None:
    with lake.staging() as folder:
        stage(folder)
        assert list(lake.root.glob("*/day=*/*.parquet")) == []
        assert [lake.days(name) for name in NAMES] == [[], [], [], []]


# Files


@cache
def minutes() -> pa.Table:
    """Rows of usage_1m whose values differ enough to fill many data pages."""
    numbers = pa.array(range(280_000), pa.int64())
    start = pc.add(MIDNIGHT * 1_000_000, pc.multiply(pc.divide(numbers, 1_000), 60_000_000))
    user = pc.multiply(numbers, 2_654_435_761).cast(pa.string())
    key = pc.if_else(pc.greater(pc.bit_wise_and(numbers, 3), 0), numbers, None).cast(pa.string())
    schema = USAGE["1m"].schema
    times = [moment.cast(schema.field(0).type) for moment in (start, pc.add(start, 60_000_000))]
    return pa.table([*times, user, key, *[pc.multiply(numbers, 7_919)] * 3], schema=schema)


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        (0, []),
        (1, [1]),
        (131_072, [131_072]),
        (131_073, [131_072, 1]),
        (280_000, [131_072, 131_072, 17_856]),
    ],
)
def test_row_groups_hold_131072_rows_and_the_bytes_do_not_tell_the_batches(
    tmp_path: Path, rows: int, groups: list[int]
) -> None:
    table = minutes().slice(0, rows)
    written: set[bytes] = set()
    for batch in (rows or 1, 122_880, 77_777, 10_241):
        path = tmp_path / f"{batch}.parquet"
        batches = table.to_batches(max_chunksize=batch)
        reader = pa.RecordBatchReader.from_batches(table.schema, batches)
        assert files.write(USAGE["1m"], reader, path, WINDOW) == rows
        metadata = pq.read_metadata(path)
        found = [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]
        assert found == groups
        assert pq.ParquetFile(path).read().equals(table)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("name", NAMES)
def test_files_are_zstd_with_the_contracts_types_and_say_only_what_they_cover(
    tmp_path: Path, name: str
) -> None:
    path = write_rows(name, tmp_path / "x.parquet", [usage_row()])
    schema = pq.read_schema(path)
    metadata = pq.read_metadata(path)
    group = metadata.row_group(0)
    assert schema.remove_metadata() == DATASETS[name].schema
    assert {group.column(place).compression for place in range(group.num_columns)} == {"ZSTD"}
    for field in schema:
        expected = {"timestamp[us, tz=UTC]", "string", "int64"}
        assert str(field.type) in expected
        assert (str(field.type) == "int64") == field.name.startswith("num_")
        assert (str(field.type) == "timestamp[us, tz=UTC]") == (
            field.name in {"start_time", "end_time", "fetched_at"}
        )
    facts = json.loads(metadata.metadata[b"mka1_usage"])
    assert facts == {"dataset": name, "schema": "1", "start": WINDOW.start, "end": WINDOW.end}


def test_only_the_time_of_fetching_is_volatile() -> None:
    volatile = {name: set(dataset.volatile) for name, dataset in DATASETS.items()}
    for name in ("raw_usage", "raw_meters", "coverage"):
        assert volatile.pop(name) == {"fetched_at"}
    assert not any(volatile.values())
    assert RAW_USAGE.schema.names[:4] == ["start_time", "end_time", "user_id", "api_key_id"]
