"""Tables in windows of time: every row in one of them, with all of its bucket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake import consistency, files, manifest, slices
from pipeline.lake.manifest import Manifest
from pipeline.lake.schemas import RAW_USAGE, REVISIONS, USAGE, Dataset
from pipeline.timeline import day_window
from tests.lake.served import DAY

Connection = duckdb.DuckDBPyConnection
DAYS = 3
MIDNIGHT = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)


def written(
    dataset: Dataset, path: Path, rows: list[tuple[datetime, int]], *, statistics: bool = True
) -> Path:
    """A file of rows, a time and a number of operations each, in row groups of a few rows."""
    columns = {"start_time": [at for at, _ in rows], "num_operations": [many for _, many in rows]}
    nothing = [None] * len(rows)
    arrays = [pa.array(columns.get(field.name, nothing), field.type) for field in dataset.schema]
    table = pa.table(arrays, schema=dataset.schema)
    pq.write_table(table, path, row_group_size=7, write_statistics=statistics)
    return path


def every(minutes: int, many: int) -> list[tuple[datetime, int]]:
    return [(MIDNIGHT + timedelta(minutes=at), many) for at in range(0, DAYS * 24 * 60, minutes)]


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize(("most", "at_least"), [(1, DAYS), (50, DAYS), (10**9, 1)])
@pytest.mark.parametrize("seconds", [60, 3_600, 86_400])
def test_each_row_is_in_one_window_with_all_rows_of_its_bucket(
    con: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    most: int,
    at_least: int,
    statistics: bool,
) -> None:
    monkeypatch.setattr(slices, "MOST_ROWS", most)
    rows = every(20, 1)
    half = len(rows) // 2
    paths = [
        written(USAGE["1m"], tmp_path / "1.parquet", rows[:half], statistics=statistics),
        written(USAGE["1m"], tmp_path / "2.parquet", rows[half:]),
    ]
    found: list[datetime] = []
    buckets: list[set[int]] = []
    for _ in slices.in_slices(con, {"sliced": (USAGE["1m"], paths)}, seconds):
        times = [row[0] for row in con.sql("SELECT start_time FROM sliced").fetchall()]
        found += times
        buckets.append({int(at.timestamp()) // seconds for at in times})
    assert sorted(found) == [at for at, _ in rows]
    assert sum(map(len, buckets)) == len(set().union(*buckets))
    assert len(buckets) >= (at_least if statistics else 1)


def test_a_check_finds_in_slices_what_it_finds_in_all(
    con: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = every(60, 3)
    hours[5] = (hours[5][0], 4)
    days = [(MIDNIGHT + timedelta(days=day), 72 + (day == 0)) for day in range(DAYS)]
    tables = {RAW_USAGE: every(20, 1), USAGE["1m"]: every(20, 1), USAGE["1h"]: hours}
    tables[USAGE["1d"]] = [*days, days[-1]]
    paths = {
        dataset.name: [written(dataset, tmp_path / f"{dataset.name}.parquet", rows)]
        for dataset, rows in tables.items()
    }

    def found() -> list[str]:
        return [
            str(one) for one in (*consistency.rollups(con, paths), *consistency.grain(con, paths))
        ]

    at_once = found()
    assert [text.split(":")[0] for text in at_once] == [
        "check_rollup of usage_1h",
        "check_grain of usage_1d",
    ]
    monkeypatch.setattr(slices, "MOST_ROWS", 10)
    assert found() == at_once


def test_what_was_restated_is_the_same_file_in_slices(
    con: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROW_GROUP", 7)
    minutes = USAGE["1m"]
    for name, many in (("before", 1), ("after", 2)):
        (tmp_path / name).mkdir()
        rows = pq.read_table(written(minutes, tmp_path / "x", every(10, many)[: 24 * 6]))
        path = tmp_path / name / f"{minutes.name}.parquet"
        files.write(minutes, rows.to_batches(), path, day_window(DAY))

    def revisions() -> bytes:
        new = tmp_path / "after"
        manifest.write_revisions(con, DAY, tmp_path / "before", Manifest(), {"usage": 9e8}, new)
        return (new / f"{REVISIONS.name}.parquet").read_bytes()

    at_once = revisions()
    slice_by_slice = 0
    sliced = slices.in_slices

    def counted(*args: Any) -> Iterator[None]:
        nonlocal slice_by_slice
        for one in sliced(*args):
            slice_by_slice += 1
            yield one

    monkeypatch.setattr(slices, "MOST_ROWS", 20)
    monkeypatch.setattr(manifest, "in_slices", counted)
    assert revisions() == at_once
    assert slice_by_slice > 10
