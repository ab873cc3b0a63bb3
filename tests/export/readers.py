"""The readers that exports are tried with, each in its own way of saying the same.

Belongs here: how a tool reads a file or a folder of days, groups and joins.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import sqlalchemy as sa

from tests.export.exported import Sums
from tests.spark import spark
from tests.truth import MEASURES

Star = dict[tuple[str, str], int]
"""Operations by weekday and name of the user."""

STAR_QUERY: Final = """
SELECT weekday_name, user_name, CAST(SUM(num_operations) AS BIGINT) AS operations
FROM fact_usage
INNER JOIN dim_user ON fact_usage.user_key = dim_user.user_key
INNER JOIN dim_date ON fact_usage.date = dim_date.date
GROUP BY weekday_name, user_name
"""
STAR_TABLES: Final = ("fact_usage", "dim_user", "dim_date")

Money = dict[str, tuple[int, Decimal | None]]
"""Tokens and cost by name of the model."""

MONEY_QUERY: Final = """
SELECT model_name, CAST(SUM(total_tokens) AS BIGINT) AS tokens, SUM(cost) AS cost
FROM fact_tokens
INNER JOIN dim_model ON fact_tokens.model_key = dim_model.model_key
GROUP BY model_name
"""
MONEY_TABLES: Final = ("fact_tokens", "dim_model")

_SUMS: Final = ", ".join(f"CAST(SUM({measure}) AS BIGINT) AS {measure}" for measure in MEASURES)


class Reader(Protocol):
    """A tool that reads Parquet."""

    def sums(self, place: Path, by: str) -> Sums:
        """The three measures by a column, of a file or of a folder of days."""

    def star(self, folder: Path) -> Star:
        """A fact joined with two of its dimensions."""

    def money(self, folder: Path) -> Money:
        """Tokens and their cost joined with their models."""


class DuckDB:
    """Queries over files."""

    def sums(self, place: Path, by: str) -> Sums:
        with closing(duckdb.connect()) as con:
            return _sums(con.sql(f"SELECT {by}, {_SUMS} FROM {_scan(place)} GROUP BY 1").fetchall())

    def star(self, folder: Path) -> Star:
        with closing(duckdb.connect()) as con:
            for name in STAR_TABLES:
                con.execute(f"CREATE VIEW {name} AS FROM {_scan(_place(folder, name))}")
            return _star(con.sql(STAR_QUERY).fetchall())

    def money(self, folder: Path) -> Money:
        with closing(duckdb.connect()) as con:
            for name in MONEY_TABLES:
                con.execute(f"CREATE VIEW {name} AS FROM {_scan(_place(folder, name))}")
            return _money(con.sql(MONEY_QUERY).fetchall())


class SQLAlchemy:
    """The same through SQLAlchemy and duckdb-engine."""

    def sums(self, place: Path, by: str) -> Sums:
        query = sa.text(f"SELECT {by}, {_SUMS} FROM {_scan(place)} GROUP BY 1")
        engine = sa.create_engine("duckdb:///:memory:")
        with engine.connect() as con:
            return _sums(con.execute(query).fetchall())

    def star(self, folder: Path) -> Star:
        engine = sa.create_engine("duckdb:///:memory:")
        with engine.connect() as con:
            for name in STAR_TABLES:
                con.execute(sa.text(f"CREATE VIEW {name} AS FROM {_scan(_place(folder, name))}"))
            return _star(con.execute(sa.text(STAR_QUERY)).fetchall())

    def money(self, folder: Path) -> Money:
        engine = sa.create_engine("duckdb:///:memory:")
        with engine.connect() as con:
            for name in MONEY_TABLES:
                con.execute(sa.text(f"CREATE VIEW {name} AS FROM {_scan(_place(folder, name))}"))
            return _money(con.execute(sa.text(MONEY_QUERY)).fetchall())


class Polars:
    """Lazy frames."""

    def sums(self, place: Path, by: str) -> Sums:
        return _sums(pl.scan_parquet(place).group_by(by).agg(pl.sum(*MEASURES)).collect().rows())

    def star(self, folder: Path) -> Star:
        fact, user, day = (pl.scan_parquet(_place(folder, name)) for name in STAR_TABLES)
        joined = fact.join(user, on="user_key").join(day, on="date")
        grouped = joined.group_by("weekday_name", "user_name").agg(pl.sum("num_operations"))
        return _star(grouped.collect().rows())

    def money(self, folder: Path) -> Money:
        fact, model = (pl.scan_parquet(_place(folder, name)) for name in MONEY_TABLES)
        grouped = fact.join(model, on="model_key").group_by("model_name")
        # Polars adds up nothing to 0; a cost that is not known is not that.
        cost = pl.when(pl.col("cost").count() > 0).then(pl.sum("cost"))
        return _money(grouped.agg(pl.sum("total_tokens"), cost).collect().rows())


class PyArrow:
    """Tables."""

    def sums(self, place: Path, by: str) -> Sums:
        grouped = pq.read_table(place).group_by(by)
        found = grouped.aggregate([(measure, "sum") for measure in MEASURES])
        names = [by, *(f"{measure}_sum" for measure in MEASURES)]
        return _sums(zip(*(found.column(name).to_pylist() for name in names), strict=True))

    def star(self, folder: Path) -> Star:
        fact, user, day = (pq.read_table(_place(folder, name)) for name in STAR_TABLES)
        joined = fact.join(user, "user_key", join_type="inner", right_suffix="_of_user")
        joined = joined.join(day, "date", join_type="inner", right_suffix="_of_day")
        names = ["weekday_name", "user_name"]
        found = joined.group_by(names).aggregate([("num_operations", "sum")])
        columns = (found.column(name).to_pylist() for name in (*names, "num_operations_sum"))
        return _star(zip(*columns, strict=True))

    def money(self, folder: Path) -> Money:
        fact, model = (pq.read_table(_place(folder, name)) for name in MONEY_TABLES)
        joined = fact.join(model, "model_key", join_type="inner", right_suffix="_of_model")
        found = joined.group_by("model_name").aggregate([("total_tokens", "sum"), ("cost", "sum")])
        names = ("model_name", "total_tokens_sum", "cost_sum")
        return _money(zip(*(found.column(name).to_pylist() for name in names), strict=True))


class Pandas:
    """Data frames."""

    def sums(self, place: Path, by: str) -> Sums:
        grouped = pd.read_parquet(place).groupby(by, dropna=False)[list(MEASURES)].sum()
        return _sums(
            (None if pd.isna(row[0]) else row[0], *row[1:]) for row in grouped.itertuples()
        )

    def star(self, folder: Path) -> Star:
        fact, user, day = (pd.read_parquet(_place(folder, name)) for name in STAR_TABLES)
        joined = fact.merge(user, on="user_key").merge(day, on="date")
        grouped = joined.groupby(["weekday_name", "user_name"])["num_operations"].sum()
        return _star((*key, count) for key, count in grouped.items())

    def money(self, folder: Path) -> Money:
        fact, model = (pd.read_parquet(_place(folder, name)) for name in MONEY_TABLES)
        grouped = fact.merge(model, on="model_key").groupby("model_name")
        tokens = grouped["total_tokens"].sum()
        cost = grouped["cost"].sum(min_count=1)
        return _money(
            (name, tokens[name], None if pd.isna(cost[name]) else cost[name])
            for name in tokens.index
        )


class Spark:
    """Spark, in this process."""

    def sums(self, place: Path, by: str) -> Sums:
        frame = spark().read.parquet(str(place))
        frame.createOrReplaceTempView("asked")
        return _sums(
            map(tuple, spark().sql(f"SELECT {by}, {_SUMS} FROM asked GROUP BY 1").collect())
        )

    def star(self, folder: Path) -> Star:
        for name in STAR_TABLES:
            frame = spark().read.parquet(str(_place(folder, name)))
            frame.createOrReplaceTempView(name)
        return _star(map(tuple, spark().sql(STAR_QUERY).collect()))

    def money(self, folder: Path) -> Money:
        for name in MONEY_TABLES:
            frame = spark().read.parquet(str(_place(folder, name)))
            frame.createOrReplaceTempView(name)
        return _money(map(tuple, spark().sql(MONEY_QUERY).collect()))


READERS: Final[dict[str, Reader]] = {
    "duckdb": DuckDB(),
    "sqlalchemy": SQLAlchemy(),
    "polars": Polars(),
    "pyarrow": PyArrow(),
    "pandas": Pandas(),
    "spark": Spark(),
}


def _place(folder: Path, name: str) -> Path:
    """Where a table of an export is: one file, or a folder of days."""
    whole = folder / f"{name}.parquet"
    return whole if whole.exists() else folder / name


def _scan(place: Path) -> str:
    return f"read_parquet('{place / '*' / '*.parquet' if place.is_dir() else place}')"


def _sums(rows: Iterable[Any]) -> Sums:
    return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows}


def _star(rows: Iterable[Any]) -> Star:
    return {(str(row[0]), str(row[1])): int(row[2]) for row in rows}


def _money(rows: Iterable[Any]) -> Money:
    return {str(row[0]): (int(row[1]), row[2]) for row in rows}
