"""What usage says of the listings now, beside what it said when they were read last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.conversations import cursors
from pipeline.conversations.cursors import Pair
from pipeline.lake import engine
from pipeline.lake.damage import is_sound
from pipeline.lake.schemas import OBSERVED, USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_of

_PAIRS = pa.schema([pa.field("api_key_id", pa.string()), pa.field("user_id", pa.string())])


def usage_files(lake: Lake) -> dict[date, Path]:
    """The file of usage_1d of each day that counts now, but for those that can't be read."""
    found = {day: lake.file(USAGE["1d"].name, day) for day in lake.all_days()}
    return {day: path for day, path in found.items() if path is not None and is_sound(path)}


def growth(
    con: duckdb.DuckDBPyConnection, lake: Lake, usage: Mapping[date, Path]
) -> dict[Pair, tuple[int, int]]:
    """The pairs whose usage of any day is not what it was when their listing was read last.

    With how many conversations and items, at least, have come about since and are not stored.
    """
    engine.bind(
        con,
        {
            "usage_1d": (USAGE["1d"], usage.values()),
            "observed_1d": (OBSERVED["1d"], lake.files(OBSERVED["1d"].name)),
        },
    )
    con.register("visits", cursors.visits(lake, cursors.visited_days(lake)))
    return {
        (key, user): (conversations, items)
        for user, key, conversations, items in con.sql(engine.sql("growth")).fetchall()
    }


def visits(
    con: duckdb.DuckDBPyConnection, lake: Lake, usage: Mapping[date, Path], read: Iterable[Pair]
) -> dict[date, pa.Table]:
    """The visits of each day that are other ones now that the listings of `read` were read.

    `usage` are the files of usage_1d as they were before any of them was read.
    """
    pairs = pa.Table.from_pylist(
        [{"api_key_id": key, "user_id": user} for key, user in read], schema=_PAIRS
    )
    if not pairs.num_rows:
        return {}
    con.register("read", pairs)
    _bind(con, lake, usage, {*usage, *cursors.visited_days(lake)})
    days = [day_of(number * DAY) for (number,) in con.sql(engine.sql("days_visited")).fetchall()]
    found: dict[date, pa.Table] = {}
    for day in days:
        _bind(con, lake, usage, [day])
        found[day] = con.sql(engine.sql("visits")).to_arrow_table()
    return found


def _bind(
    con: duckdb.DuckDBPyConnection, lake: Lake, usage: Mapping[date, Path], days: Iterable[date]
) -> None:
    days = list(days)
    engine.bind(con, {"usage_1d": (USAGE["1d"], [usage[day] for day in days if day in usage])})
    con.register("visits", cursors.visits(lake, days))
