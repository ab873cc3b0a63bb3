"""The audit finds what was planted, and nothing where nothing is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake import consistency
from pipeline.lake.consistency import ConsistencyError, Files
from pipeline.lake.schemas import MEASURES, USAGE, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import Window
from tests.lake.served import (
    DAY,
    MIDNIGHT,
    WINDOW,
    Bucket,
    Result,
    Row,
    plant,
    publish,
    rows_of,
    write_rows,
)

Connection = duckdb.DuckDBPyConnection
NEXT = DAY + timedelta(days=1)
WIDTH_TABLES = [dataset.name for dataset in USAGE.values()]


@pytest.fixture(scope="module")
def loaded_once(con: Connection, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A day with usage, with null ids and null measures in it, and a day without."""
    lake = Lake(tmp_path_factory.mktemp("loaded"))
    results = (Result(), Result(None, None, (None, 5, 1)), Result("", "key", (0, 0, 2)))
    publish(con, lake, [[Bucket(0, results), Bucket(61, results)]])
    publish(con, lake, [], day=NEXT)
    return lake


@pytest.fixture
def loaded(loaded_once: Lake, lake: Lake) -> Lake:
    """A copy of it, to plant in."""
    shutil.copytree(loaded_once.root, lake.root, symlinks=True)
    return lake


def files(lake: Lake) -> Files:
    return {name: lake.files(name) for name in USAGE_DATASETS}


def replant(
    lake: Lake, name: str, change: Callable[[list[Row]], list[Row]], day: date = DAY
) -> None:
    plant(lake, name, change(rows_of(lake.path(name, day))), day)


def test_nothing_is_found_where_nothing_is_wrong(con: Connection, loaded: Lake) -> None:
    found = files(loaded)
    assert consistency.schemas(found) == []
    assert consistency.grain(con, found) == []
    assert consistency.counts(con, found) == []
    assert consistency.totals(con, found) == []
    consistency.require(con, found)


def test_nothing_is_found_in_an_empty_lake(con: Connection, lake: Lake) -> None:
    consistency.require(con, files(lake))


@pytest.mark.parametrize("user", [None, "", "ada", "it's"])
@pytest.mark.parametrize("name", WIDTH_TABLES)
def test_two_rows_of_one_grain_are_found_also_of_the_null_group(
    con: Connection, loaded: Lake, name: str, user: str | None
) -> None:
    row: Row = {"start_time": MIDNIGHT, "user_id": user, "api_key_id": None, "num_operations": 0}
    plant(loaded, name, [row | {"num_items_added": number} for number in range(2)])
    (finding,) = consistency.grain(con, files(loaded))
    assert (finding.check, finding.dataset) == ("check_grain", name)
    assert finding.table.select(["user_id", "api_key_id", "times"]).to_pylist() == [
        {"user_id": user, "api_key_id": None, "times": 2}
    ]


def test_a_grain_that_two_days_share_is_found(con: Connection, loaded: Lake) -> None:
    plant(loaded, "usage_1h", rows_of(loaded.path("usage_1h", DAY)), NEXT)
    (finding,) = consistency.grain(con, files(loaded))
    assert finding.table.num_rows == len(rows_of(loaded.path("usage_1h", DAY)))


def test_rows_as_served_may_share_their_grain(con: Connection, lake: Lake) -> None:
    publish(con, lake, [[Bucket(0, (Result(), Result()))]])
    assert consistency.grain(con, files(lake)) == []


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", USAGE_DATASETS)
def test_a_negative_count_is_found_also_beside_nulls(
    con: Connection, loaded: Lake, name: str, measure: str
) -> None:
    plant(loaded, name, [{"start_time": MIDNIGHT, "user_id": "ada", measure: -1}])
    (finding,) = consistency.counts(con, files(loaded))
    assert (finding.check, finding.dataset) == ("check_counts", name)
    assert finding.table["measure"].to_pylist() == [measure]
    assert finding.table["value"].to_pylist() == [-1]


def more(measure: str) -> Callable[[list[Row]], list[Row]]:
    def change(rows: list[Row]) -> list[Row]:
        count = rows[0][measure]
        return [rows[0] | {measure: (count if isinstance(count, int) else 0) + 1}, *rows[1:]]

    return change


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", USAGE_DATASETS)
def test_a_total_that_differs_at_any_one_width_is_found(
    con: Connection, loaded: Lake, name: str, measure: str
) -> None:
    replant(loaded, name, more(measure))
    (finding,) = consistency.totals(con, files(loaded))
    totals = {row["source"]: row[measure] for row in finding.table.to_pylist()}
    others = {total for source, total in totals.items() if source != name}
    assert set(totals) == set(USAGE_DATASETS)
    assert len(others) == 1
    assert totals[name] == others.pop() + 1


def test_differences_that_cancel_out_over_days_are_found(con: Connection, lake: Lake) -> None:
    for day in (DAY, NEXT):
        publish(con, lake, [[Bucket(0, (Result(),), day)]], day=day)
    first, second = (rows_of(lake.path("usage_1d", day)) for day in (DAY, NEXT))
    plant(lake, "usage_1d", [first[0] | {"num_operations": 4}])
    plant(lake, "usage_1d", [second[0] | {"num_operations": 2}], NEXT)
    (finding,) = consistency.totals(con, files(lake))
    assert len(set(finding.table["day"].to_pylist())) == 2


def test_totals_are_compared_beyond_53_bits(con: Connection, lake: Lake) -> None:
    publish(con, lake, [[Bucket(0, (Result(counts=(2**62, 0, 0)),))]])
    replant(lake, "usage_1d", more("num_conversations_created"))
    assert len(consistency.totals(con, files(lake))) == 1


@pytest.mark.parametrize("name", USAGE_DATASETS)
@pytest.mark.parametrize("day", [DAY, NEXT], ids=["with usage", "without usage"])
def test_a_day_that_is_missing_at_one_width_is_found(
    con: Connection, loaded: Lake, name: str, day: date
) -> None:
    loaded.path(name, day).resolve().unlink()
    text = "; ".join(map(str, consistency.totals(con, files(loaded))))
    assert "check_windows" in text
    assert name in text
    assert str(day) in text


@pytest.mark.parametrize("name", USAGE_DATASETS)
def test_a_table_that_covers_another_part_of_the_day_is_found(
    con: Connection, loaded: Lake, name: str
) -> None:
    half = Window(WINDOW.start, WINDOW.start + 43_200)
    write_rows(name, loaded.path(name, DAY), rows_of(loaded.path(name, DAY)), half)
    found = consistency.totals(con, files(loaded))
    assert [finding.check for finding in found] == ["check_windows"]
    assert {
        "window": str(half),
        "missing_from": "usage_1m" if name != "usage_1m" else "usage_1h",
    } in (found[0].table.to_pylist())


def order(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*list(schema)[1:], schema.field(0)])


def kind(schema: pa.Schema) -> pa.Schema:
    return schema.set(5, pa.field(schema.field(5).name, pa.decimal128(38)))


def name_of_column(schema: pa.Schema) -> pa.Schema:
    return schema.set(3, pa.field("api_key", pa.string()))


@pytest.mark.parametrize("breach", [order, kind, name_of_column])
@pytest.mark.parametrize("name", USAGE_DATASETS)
def test_a_wrong_schema_is_found_and_refused(
    con: Connection, loaded: Lake, name: str, breach: Callable[[pa.Schema], pa.Schema]
) -> None:
    schema = breach(USAGE_DATASETS[name].schema)
    pq.write_table(schema.empty_table(), loaded.path(name, DAY))
    (sentence,) = consistency.schemas(files(loaded))
    assert str(DAY) in sentence
    assert f"{name}: the contract says start_time timestamp[us, tz=UTC], " in sentence
    with pytest.raises(ConsistencyError, match=f"{name}: the contract says"):
        consistency.require(con, files(loaded))


def remove(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [remove, cut_short])
@pytest.mark.parametrize("name", USAGE_DATASETS)
def test_a_file_that_is_missing_or_cut_short_is_found_and_refused(
    con: Connection, loaded: Lake, name: str, damage: Callable[[Path], None]
) -> None:
    found = files(loaded)
    damage(loaded.path(name, DAY).resolve())
    (sentence,) = consistency.schemas(found)
    assert sentence.startswith(f"{name}, ")
    assert str(DAY) in sentence
    with pytest.raises(ConsistencyError, match=f"{name}, .*{DAY}"):
        consistency.require(con, found)


def test_a_refusal_names_the_check_and_shows_a_few_rows_of_it(
    con: Connection, loaded: Lake
) -> None:
    plant(loaded, "usage_1d", [{"start_time": MIDNIGHT, "user_id": "ada", "num_operations": 7}])
    with pytest.raises(ConsistencyError) as refused:
        consistency.require(con, files(loaded))
    text = str(refused.value)
    for part in ("check_totals of the usage tables", "'source': 'usage_1d'", "and 1 more"):
        assert part in text
