"""Hours and days of the shared lake are made of its minutes: the same bytes by every engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.lake import files
from pipeline.lake.manifest import digest
from pipeline.lake.schemas import USAGE
from pipeline.spark.rollup import (
    Files,
    RollupError,
    Work,
    as_contract,
    is_sorted,
    on_duckdb,
    roll_up,
)
from pipeline.timeline import DAY, day_window
from tests.fixtures_local import clean_environment, command
from tests.on_spark.conftest import DAYS, Shared, share
from tests.servers import s3

HOURS, BY_DAY = USAGE["1h"].name, USAGE["1d"].name
BOTH = (HOURS, BY_DAY)


def hashes(shared: Shared) -> dict[tuple[date, str], str]:
    """What stands of hours and days."""
    return {
        (day, name): of.manifest.files[name].sha256
        for day, of in shared.open().standing().items()
        for name in BOTH
    }


@pytest.fixture
def fresh(tmp_path: Path) -> Shared:
    """A shared lake of one day that a test may change."""
    return share(tmp_path / "fresh", days=1)


def spoil(shared: Shared, folder: Path, day: date = DAYS[0]) -> None:
    """Give a day hours and days of which a row is lost, as a query that was wrong would."""
    lost: dict[str, Path] = {}
    for name in BOTH:
        dataset = USAGE["1h" if name == HOURS else "1d"]
        rows = pq.read_table(shared.lake.file(name, day))
        lost[name] = folder / f"{name}.parquet"
        files.write(dataset, rows.slice(1).to_batches(), lost[name], day_window(day))
    shared.open().replace({day: lost})


@pytest.mark.slow
def test_what_stands_already_is_not_committed_again(three_days: Shared) -> None:
    before = three_days.open().standing()
    done = roll_up(three_days.open(), on_duckdb, None, None, three_days.lake)
    assert done.days == list(DAYS)
    assert done.changed == []
    assert done.rows == {
        name: sum(of.manifest.files[name].rows for of in before.values()) for name in BOTH
    }
    assert three_days.open().standing() == before


@pytest.mark.slow
def test_wrong_hours_become_those_of_the_minutes_in_one_commit(
    fresh: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = hashes(fresh)
    spoil(fresh, tmp_path)
    assert hashes(fresh) != right
    clean_environment(monkeypatch, tmp_path, fresh.settings())
    ended = command(["rollup"])
    assert ended.code == 0
    assert "1 day rolled up" in ended.err
    assert f"committed: {DAYS[0]}" in ended.err
    assert hashes(fresh) == right
    assert list(fresh.open().verify()) == []
    assert "all stood already" in command(["rollup", "--start", str(DAYS[0])]).err


@pytest.mark.slow
def test_what_lost_usage_is_not_committed(fresh: Shared, tmp_path: Path) -> None:
    spoil(fresh, tmp_path)
    before = fresh.open().standing()

    def losing(work: Work) -> Iterator[tuple[date, Files]]:
        for day in work.minutes:
            yield day, {"1h": tmp_path / f"{HOURS}.parquet", "1d": tmp_path / f"{BY_DAY}.parquet"}

    with pytest.raises(RollupError, match=r"2024-11-02: usage_1h came to .* nothing was committed"):
        roll_up(fresh.open(), losing, None, None, fresh.lake)
    assert fresh.open().standing() == before


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3])
def test_days_that_another_worker_has_committed_meanwhile_are_rolled_up_again(
    fresh: Shared, tmp_path: Path, times: int
) -> None:
    (day,) = fresh.open().days()
    right = hashes(fresh)
    others = [hour_of(fresh, tmp_path / f"{n}.parquet", n) for n in range(times)]
    spoil(fresh, tmp_path)

    def late(work: Work) -> Iterator[tuple[date, Files]]:
        made = dict(on_duckdb(work))
        if others:
            fresh.open().replace({day: {HOURS: others.pop()}})
        yield from made.items()

    if times == 3:
        with pytest.raises(RollupError, match="2024-11-02: committed by another worker each of 3"):
            roll_up(fresh.open(), late, None, None, fresh.lake)
        assert hashes(fresh) != right
    else:
        assert roll_up(fresh.open(), late, None, None, fresh.lake).changed == [day]
        assert hashes(fresh) == right


def hour_of(shared: Shared, path: Path, row: int) -> Path:
    """A file with one row of a day's hours."""
    rows = pq.read_table(shared.lake.file(HOURS, DAYS[0])).slice(row, 1)
    files.write(USAGE["1h"], rows.to_batches(), path, day_window(DAYS[0]))
    return path


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--remote", "sc://here"], 2, "--remote is for --engine spark"),
        (["--engine", "spark"], 2, "give --remote sc://host:15002, or set MKA1_USAGE_SPARK_REMOTE"),
        (["--engine", "spark", "--remote", "sc://here"], 2, "MKA1_USAGE_CATALOG is not set"),
        ([], 2, "set it and MKA1_USAGE_WAREHOUSE"),
    ],
)
def test_a_rollup_that_cant_be_says_what_to_do_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, said: str
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path)})
    ended = command(["rollup", *args])
    assert ended.code == code
    assert said in ended.err


@pytest.mark.slow
def test_days_that_are_not_there_are_said_with_those_that_are(three_days: Shared) -> None:
    with pytest.raises(RollupError, match="it has 2024-11-02 to 2024-11-04"):
        roll_up(three_days.open(), on_duckdb, date(2020, 1, 1), date(2020, 1, 1), three_days.lake)


@pytest.mark.slow
def test_a_warehouse_on_s3_is_rolled_up_and_has_a_place_for_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        fresh = share(tmp_path / "fresh", days=1, warehouse=store.warehouse)
        right = hashes(fresh)
        spoil(fresh, tmp_path)
        assert roll_up(fresh.open(), on_duckdb, None, None, fresh.lake).changed == [DAYS[0]]
        assert hashes(fresh) == right
        with fresh.open().warehouse.results() as results:
            assert results.place.startswith(f"{store.warehouse}/.results-")
            written = results.place.removeprefix("s3://")
            for path in ("width=1h/day=2024-11-02/part-0.parquet", "_SUCCESS"):
                with store.files().open_output_stream(f"{written}/{path}") as sink:
                    sink.write(b"rows")
            (found,) = results.files()
            results.fetch(found, tmp_path / "part")
            assert (tmp_path / "part").read_bytes() == b"rows"
        assert not store.keys(f"warehouse/{results.place.rpartition('/')[2]}")


@pytest.mark.slow
def test_results_that_a_killed_process_left_are_removed_a_day_later(fresh: Shared) -> None:
    warehouse = Path(fresh.place.warehouse)
    left, other = warehouse / ".results-left", warehouse / ".results-other"
    for folder, age in ((left, DAY + 1), (other, DAY - 60)):
        folder.mkdir()
        (folder / "part").touch()
        os.utime(folder / "part", (time.time() - age,) * 2)
    with fresh.open().warehouse.results():
        assert not left.exists()
        assert other.exists()


IDS = st.one_of(st.none(), st.text(max_size=2))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), IDS, IDS), max_size=5))
def test_rows_are_sorted_if_null_is_first_and_texts_ascend_by_their_bytes(
    rows: list[tuple[int, str | None, str | None]],
) -> None:
    schema = pa.schema([("start", pa.int64()), ("user", pa.string()), ("key", pa.string())])
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    table = pa.table(
        [pa.array(it, kind) for it, kind in zip(columns, schema.types, strict=True)], schema=schema
    )
    order = [
        (start, *((it is not None, (it or "").encode()) for it in ids)) for start, *ids in rows
    ]
    assert is_sorted(table) == (order == sorted(order))


@pytest.mark.slow
@pytest.mark.parametrize("in_parts", [1, 2])
def test_rows_of_any_order_and_number_of_files_become_the_files_of_the_contract(
    three_days: Shared, tmp_path: Path, in_parts: int
) -> None:
    lake, day = three_days.lake, DAYS[1]
    right = lake.file(HOURS, day)
    assert right is not None
    mixed = pl.read_parquet(right).sample(fraction=1, shuffle=True, seed=7).to_arrow()
    size = -(-mixed.num_rows // in_parts)
    parts = [tmp_path / f"part-{n}.parquet" for n in range(in_parts)]
    for n, part in enumerate(parts):
        pq.write_table(mixed.slice(n * size, size), part)
    made = tmp_path / "made.parquet"
    as_contract(lake, USAGE["1h"], parts, made, day_window(day))
    assert digest(made) == digest(right)
