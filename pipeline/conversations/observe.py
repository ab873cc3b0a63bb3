"""Conversations, items and responses counted in buckets, and whose listings are to be read.

Belongs here: publishing `observed_*` and `tokens_*`, and the pairs of user and key in usage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.lake import engine, files
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.manifest import has_all_records, manifest_of
from pipeline.lake.partitioned_write import write_days
from pipeline.lake.schemas import CONVERSATIONS, ITEMS, OBSERVED, RESPONSES, TOKENS, USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, SECONDS, Window, day_window


def observe_days(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    through: Mapping[date, int],
    read_at: Mapping[date, float],
) -> tuple[date, ...]:
    """Publish the observed buckets of each day of `through` anew; returns the days that changed.

    Counted is what lies before `through` of the day (Unix seconds, on a minute's edge), which is no
    later than its end; a day on which nothing was seen gets files without rows. All days are
    counted in one go and published at one stroke. A day whose records are not all there is left as
    it is. `read_at` is when the listings were asked for (Unix seconds), where that is new.
    """
    with ExitStack() as stack:
        # What is counted must not be half merged in the meantime, nor dropped.
        stack.enter_context(lake.lock("records"))
        wanted = [day for day in sorted(through) if has_all_records(manifest_of(lake.version(day)))]
        if not wanted:
            return ()
        folder = stack.enter_context(lake.staging())
        inputs = {
            "created_conversations": (CONVERSATIONS, lake.files("conversations", wanted)),
            "conversations": (CONVERSATIONS, lake.files("conversations")),
            "items": (ITEMS, lake.files("items", wanted)),
            "responses": (RESPONSES, lake.files("responses", wanted)),
        }
        engine.bind(con, inputs)
        staged = _staged(con, through, wanted, folder)
        changes = {
            day: Change(
                {name: of[day] for name, of in staged.items()},
                read_at={"conversations": read_at[day]} if day in read_at else {},
                done={"observe"},
            )
            for day in wanted
        }
        changed = publish_days(con, lake, changes)
    return tuple(day for day in wanted if changed[day])


def _staged(
    con: duckdb.DuckDBPyConnection, through: Mapping[date, int], days: list[date], folder: Path
) -> dict[str, dict[date, Path]]:
    """The observed buckets of the days, finished in `folder`, by dataset."""
    numbers = [day_window(day).start // DAY for day in days]
    columns = [pa.array(numbers, pa.int64()), pa.array([through[day] for day in days], pa.int64())]
    con.register("extents", pa.table(columns, ["day_number", "through"]))
    staged: dict[str, dict[date, Path]] = {}
    for family, rollup in ((OBSERVED, "rollup"), (TOKENS, "tokens_rollup")):
        rows = con.sql(engine.sql(family["1m"].name))
        narrower, by_day = family["1m"], dict[date, Path]()
        for width, dataset in family.items():
            if width != "1m":
                rows = engine.rollup(con, SECONDS[width], narrower, by_day.values(), rollup)
            narrower, by_day = (
                dataset,
                write_days(
                    dataset,
                    rows.to_arrow_reader(files.ROW_GROUP),
                    "start_time",
                    folder,
                    window=lambda day: Window(day_window(day).start, through[day]),
                    also=days,
                ),
            )
            staged[dataset.name] = by_day
    return staged


def active_pairs(con: duckdb.DuckDBPyConnection, lake: Lake, window: Window) -> pa.Table:
    """Who used the API in a window, by `usage_1m`: `user_id`, `api_key_id` and the three measures.

    A row per pair with any measure above zero; the window is of whole days.
    """
    # Where minutes are not kept: whole days say the same of whole days.
    found = (lake.file("usage_1m", day) or lake.file("usage_1d", day) for day in window.days)
    engine.bind(con, {"usage_1m": (USAGE["1m"], [path for path in found if path is not None])})
    params = {"start": window.start, "end": window.end}
    return con.sql(engine.sql("active_pairs"), params=params).to_arrow_table()


def conversations_of(
    con: duckdb.DuckDBPyConnection, lake: Lake, users: Collection[str]
) -> frozenset[str]:
    """The ids of the conversations that are stored of some users."""
    if not users:
        return frozenset()
    engine.bind(con, {"conversations": (CONVERSATIONS, lake.files("conversations"))})
    con.register("people", pa.table({"user_id": pa.array(sorted(users), pa.string())}))
    return frozenset(name for (name,) in con.sql(engine.sql("conversations_of")).fetchall())
