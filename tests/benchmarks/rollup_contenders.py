"""What the roll-up benchmark runs, each in a process of its own: ``python -m`` this, a name, a job.

A job says where the minutes are (``minutes``) and where to put hours and days (``folder``). Facts:
rows, sums and a checksum over whole rows, of the hours and of the days that came out.
"""

# Polars' own types leave NumPy's open, which this project does not install.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final

from tests.benchmarks.measure import Contender, Facts, Job, Prepared, contend
from tests.benchmarks.rollup_data import files

MEASURES: Final = ("num_conversations_created", "num_items_added", "num_operations")
_SUMS: Final = ", ".join(f"sum({measure})" for measure in MEASURES)


def reading(job: Job) -> Prepared:
    """DuckDB scans the columns that a roll-up needs, and does as little as it can with them.

    Ids go through ``min`` and ``max``, which look at every row; the length of a string is worked
    out once for each entry of a Parquet dictionary, and would leave the rows unread.
    """
    import duckdb

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    paths = [str(file) for file in files(Path(job["minutes"]))]
    query = (
        "SELECT count(*), min(start_time), max(start_time), min(user_id), max(user_id), "
        f"min(api_key_id), max(api_key_id), {_SUMS} FROM read_parquet($paths)"
    )

    def run() -> None:
        con.execute(query, {"paths": paths}).fetchall()

    return Prepared(run, lambda: {})


def ours(job: Job) -> Prepared:
    """The product's own way: 1m to 1h to 1d by cascade, days side by side."""
    from duckdb import DuckDBPyConnection

    from pipeline.lake import engine
    from pipeline.lake.schemas import USAGE
    from pipeline.lake.store import Lake
    from pipeline.timeline import day_window
    from pipeline.usage.rollup import widen

    def roll_up(con: DuckDBPyConnection, minutes: Path) -> None:
        window = day_window(date.fromisoformat(minutes.parent.name.removeprefix("day=")))
        hours, days = (_result(job, name, minutes) for name in ("usage_1h", "usage_1d"))
        widen(con, "1h", USAGE["1m"], minutes, hours, window)
        widen(con, "1d", USAGE["1h"], hours, days, window)

    def run() -> None:
        engine.at_once(Lake(Path(job["folder"])), roll_up, files(Path(job["minutes"])))

    return Prepared(run, lambda: _facts(job))


def polars(job: Job) -> Prepared:
    """Polars, a day at a time on its streaming engine, with buckets by integer arithmetic.

    The fastest of what was tried: one scan of all days takes longer and several times the memory,
    and so do the in-memory engine and ``dt.truncate``.
    """
    import polars as pl

    keys = ["user_id", "api_key_id"]

    def roll_up(minutes: pl.LazyFrame, microseconds: int) -> pl.DataFrame:
        bucket = pl.col("start_time").cast(pl.Int64) // microseconds * microseconds
        start = pl.col("start_time").cast(pl.Datetime("us", "UTC"))
        end = (pl.col("start_time") + microseconds).cast(pl.Datetime("us", "UTC"))
        return (
            minutes.with_columns(bucket)
            .group_by("start_time", *keys)
            .agg(pl.col(MEASURES).sum())
            .sort("start_time", *keys)
            .select(start, end.alias("end_time"), *keys, *MEASURES)
            .collect(engine="streaming")
        )

    def run() -> None:
        for file in files(Path(job["minutes"])):
            hours = roll_up(pl.scan_parquet(file, hive_partitioning=False), 3_600_000_000)
            hours.write_parquet(_result(job, "usage_1h", file))
            days = roll_up(hours.lazy(), 86_400_000_000)
            days.write_parquet(_result(job, "usage_1d", file))

    return Prepared(run, lambda: _facts(job))


def _result(job: Job, dataset: str, minutes: Path) -> Path:
    """Where the hours or days of a file of minutes go."""
    folder = Path(job["folder"]) / dataset / minutes.parent.name
    folder.mkdir(parents=True)
    return folder / f"{dataset}.parquet"


def _facts(job: Job) -> Facts:
    """What came out: equal facts mean equal rows, in whatever order."""
    import duckdb

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    facts: dict[str, int] = {}
    for dataset in ("usage_1h", "usage_1d"):
        pattern = str(Path(job["folder"]) / dataset / "**" / "*.parquet")
        values = con.execute(
            f"SELECT count(*), {_SUMS}, bit_xor(hash(start_time, end_time, user_id, api_key_id, "
            f"{', '.join(MEASURES)})) FROM read_parquet($pattern, hive_partitioning = false)",
            {"pattern": pattern},
        ).fetchone()
        assert values is not None
        names = ("rows", *MEASURES, "checksum")
        facts |= {
            f"{dataset}.{name}": int(value) for name, value in zip(names, values, strict=True)
        }
    return facts


CONTENDERS: Final[Mapping[str, Contender]] = {
    "reading the columns": reading,
    "mka1-usage": ours,
    "Polars": polars,
}

if __name__ == "__main__":
    contend(CONTENDERS)
