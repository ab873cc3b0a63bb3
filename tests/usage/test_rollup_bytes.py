"""Equal input makes equal bytes, however it came and whatever was there before."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake import engine
from pipeline.lake.schemas import USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import Window, day_window
from pipeline.usage import landing
from pipeline.usage.page_buffer import Chunk, PageBuffer
from pipeline.usage.rollup import publish_staged, rebuild_day, stage_day
from tests.lake.served import (
    DAY,
    MIDNIGHT,
    WINDOW,
    Bucket,
    Counts,
    Page,
    Result,
    digests,
    publish,
    served_rows,
    stand,
    usage_rows,
)
from tests.lake.traffic import in_pages, traffic

Connection = duckdb.DuckDBPyConnection


def result(counts: Counts) -> Result:
    return Result(counts=counts)


def test_every_table_is_sorted_by_all_its_columns_null_first(con: Connection, lake: Lake) -> None:
    publish(con, lake, in_pages(traffic(5), 60, seed=3))
    for name in USAGE_DATASETS:
        frame = pl.read_parquet(lake.path(name, DAY), hive_partitioning=False)
        assert frame["user_id"].null_count() > 0
        assert frame.equals(frame.sort(frame.columns, nulls_last=False))


def test_the_bytes_tell_nothing_of_pages_order_threads_or_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = traffic(2)
    found: list[dict[str, str]] = []
    for number, (size, seed, threads, held) in enumerate(
        [
            *((1_440, None, 1, landing.HELD), (60, None, 4, 0), (60, 1, 1, landing.HELD)),
            *((7, 2, 2, landing.HELD), (500, 3, 3, 0)),
        ]
    ):
        monkeypatch.setattr(landing, "HELD", held)
        lake = Lake(tmp_path / str(number))
        with closing(engine.connect(threads=threads)) as con:
            publish(con, lake, in_pages(served, size, seed))
            assert rebuild_day(con, lake, DAY).changed == ()
        found.append(digests(lake))
    assert all(one == found[0] for one in found)
    assert len(set(found[0].values())) == 4


@pytest.mark.slow
def test_a_large_day_has_full_row_groups_and_the_same_bytes_over_any_number_of_threads(
    tmp_path: Path,
) -> None:
    spooled: list[tuple[list[int], pa.Table]] = []
    for page in in_pages(traffic(100, null_users=0.01), 240):
        first = sum(len(starts) for starts, _ in spooled)
        spooled.append(([bucket.start for bucket in page], served_rows(page, first, MIDNIGHT)))
    found: list[dict[str, str]] = []
    for threads in (1, 3):
        lake = Lake(tmp_path / str(threads))
        with closing(engine.connect(threads=threads)) as con, lake.staging() as folder:
            spool = PageBuffer(folder / "spool", "an account", WINDOW, MIDNIGHT)
            with Chunk(spool, WINDOW) as part:
                for starts, rows in spooled:
                    part.add(starts, rows)
                part.finish()
            publish_staged(con, lake, stage_day(con, DAY, WINDOW, spool, folder), folder)
        found.append(digests(lake))
        for name in ("raw_usage", "usage_1m"):
            metadata = pq.read_metadata(lake.path(name, DAY))
            groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
            assert groups == [131_072, metadata.num_rows - 131_072]
            assert 131_072 < metadata.num_rows < 150_000
    assert all(one == found[0] for one in found)


def test_a_second_publication_leaves_every_file_untouched_whenever_it_was_fetched(
    con: Connection, lake: Lake
) -> None:
    served = traffic(1)
    first = publish(con, lake, in_pages(served, 100), fetched_at=MIDNIGHT)
    before = stand(lake)
    again = publish(con, lake, in_pages(served, 33, seed=1), fetched_at=MIDNIGHT + 9_999)
    assert first.changed == tuple(USAGE_DATASETS)
    assert again.changed == ()
    assert again.rows == first.rows
    assert stand(lake) == before


def test_a_restatement_changes_the_files_that_it_touches(con: Connection, lake: Lake) -> None:
    publish(con, lake, [[Bucket(0, (result((1, 2, 3)),)), Bucket(1, (result((4, 5, 6)),))]])
    moved = [[Bucket(0, (result((4, 5, 6)),)), Bucket(1, (result((1, 2, 3)),))]]
    assert publish(con, lake, moved).changed == ("raw_usage", "usage_1m")
    gone: list[Page] = [[Bucket(0), Bucket(1)]]
    assert publish(con, lake, gone).changed == tuple(USAGE_DATASETS)
    assert usage_rows(lake, "1d") == []


def test_days_loaded_in_any_order_over_any_history_have_the_same_bytes(
    con: Connection, tmp_path: Path
) -> None:
    days = [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)]
    served = {day: [[Bucket(number, (Result(),), day)]] for number, day in enumerate(days)}
    straight, tangled = Lake(tmp_path / "straight"), Lake(tmp_path / "tangled")
    for day in days:
        publish(con, straight, served[day], day=day)
    publish(con, tangled, [[Bucket(9, (Result("other"),), days[1])]], day=days[1])
    start = day_window(days[2]).start
    publish(con, tangled, served[days[2]], day=days[2], window=Window(start, start + 600))
    for day in reversed(days):
        publish(con, tangled, served[day], day=day)
    assert digests(tangled) == digests(straight)
