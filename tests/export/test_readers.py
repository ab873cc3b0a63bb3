"""Every reader says the same of an export, and what the API itself counts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from pipeline.emulator import World
from pipeline.export.export import DATABASE, export
from pipeline.export.rows import NO_USER
from pipeline.export.tables import STAR, by_team
from pipeline.lake import engine
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_of, day_window
from tests.export.exported import DAYS, counted, rows
from tests.export.readers import READERS, STAR_QUERY, Reader
from tests.spark import needs_java, spark
from tests.truth import reported

EVERY = [
    pytest.param(reader, id=name, marks=[needs_java, pytest.mark.slow] if name == "spark" else [])
    for name, reader in READERS.items()
]
COUNTED = ("fact_usage", "usage_1m", "usage_1h", "usage_1d")


@pytest.fixture(scope="module")
def by_day(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with a file a day."""
    folder = tmp_path_factory.mktemp("by-day")
    export(lake, folder, by_day=True)
    return folder


@pytest.fixture(scope="module")
def database(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export as one DuckDB file."""
    folder = tmp_path_factory.mktemp("database")
    export(lake, folder, form="duckdb")
    return folder / DATABASE


@pytest.mark.parametrize("by", ["date", "user_id"])
@pytest.mark.parametrize("reader", EVERY)
def test_every_reader_finds_the_sums_that_the_api_reports(
    reader: Reader, by: str, star: Path, by_day: Path, world: World
) -> None:
    expected = counted(world, by)
    assert len(expected) > 2
    for name in COUNTED:
        assert reader.sums(star / f"{name}.parquet", by) == expected
        assert reader.sums(by_day / name, by) == expected


@pytest.mark.parametrize("reader", EVERY)
def test_every_reader_joins_the_star_without_losing_a_call(
    reader: Reader, star: Path, by_day: Path, world: World
) -> None:
    expected: dict[tuple[str, str], int] = {}
    for start, user, _, _, _, operations in reported(world, "1d", DAYS):
        key = (f"{day_of(start):%A}", NO_USER if user is None else user)
        expected[key] = expected.get(key, 0) + (operations or 0)
    assert any(user == NO_USER for _, user in expected)
    assert reader.star(star) == reader.star(by_day) == expected


def test_superset_would_find_the_tables_and_the_same_answers(database: Path, star: Path) -> None:
    at = sa.create_engine(f"duckdb:///{database}?access_mode=read_only")
    with at.connect() as con:
        tables = set(sa.inspect(con).get_table_names())
        found = {(row[0], row[1]): row[2] for row in con.execute(sa.text(STAR_QUERY))}
        asked = sa.text("SELECT user_name FROM dim_user WHERE user_key = :key")
        assert con.execute(asked, {"key": 0}).scalar_one() == NO_USER
        moment = con.execute(sa.text("SELECT min(start_time), min(date) FROM usage_1m")).one()
    at.dispose()
    assert {table.name for table in STAR} <= tables
    assert found == READERS["duckdb"].star(star)
    assert isinstance(moment[0], datetime)
    assert moment[0].tzinfo is None
    assert moment[1] == date(2024, 1, 1)


# The queries themselves on Spark


@needs_java
@pytest.mark.slow
def test_spark_makes_the_same_star_from_the_lake(lake: Lake, star: Path, tmp_path: Path) -> None:
    """The files in `sql/` are the whole computation: carried over, they give the same rows."""
    sqlglot = pytest.importorskip("sqlglot", reason="the extra `spark` carries queries there")
    session = spark()
    for name in ("usage_1h", "tokens_1h", "coverage"):
        # Under names that are no pattern to Spark, and not hidden.
        for place, path in enumerate(lake.files(name)):
            shutil.copy(path, tmp_path / f"{name}-{place}.parquet")
        frame = session.read.parquet(*map(str, tmp_path.glob(f"{name}-*.parquet")))
        frame.createOrReplaceTempView(name)
    for name, kind in (("users", "user"), ("api_keys", "api_key")):
        columns = [f"{kind}_id AS id", f"{kind}_key AS number", f"{kind}_name AS name"]
        session.read.parquet(str(star / f"dim_{kind}.parquet")).selectExpr(
            *columns
        ).createOrReplaceTempView(name)
    written = "kind STRING, id STRING, name STRING, team_id STRING"
    session.createDataFrame([], written).createOrReplaceTempView("names")
    session.createDataFrame([], "id STRING, number BIGINT").createOrReplaceTempView("teams")
    days = [(day_window(day).start // DAY, True, True) for day in DAYS]
    columns_of_days = "day_number BIGINT, is_loaded BOOLEAN, is_complete BOOLEAN"
    session.createDataFrame(days, columns_of_days).createOrReplaceTempView("days")
    for table in STAR:
        name, params = table.name, {}
        if name in ("dim_user", "dim_api_key"):
            kind = name.removeprefix("dim_")
            name, params = "dim_member", {"by": f"{kind}_id"}
            session.table(f"{kind}s").createOrReplaceTempView("members")
        (query,) = sqlglot.transpile(engine.sql(name), read="duckdb", write="spark")
        columns = by_team(table).schema.names  # which the query has, and these files lack
        found = [
            {
                column: value
                for column, value in zip(columns, row, strict=True)
                if column in table.schema.names
            }
            for row in session.sql(query, params).collect()
        ]
        assert _plain(found) == _plain(rows(star, table.name)), table.name


def _plain(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            name: value.replace(tzinfo=None) if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in found
    ]


# What the file says of itself


def test_a_reader_can_leave_out_what_is_not_asked_for(star: Path) -> None:
    file = pq.ParquetFile(star / "usage_1m.parquet")
    group = file.metadata.row_group(0)
    for place in range(file.metadata.num_columns):
        column = group.column(place)
        assert column.is_stats_set
        assert column.has_column_index
        assert column.compression == "SNAPPY"
