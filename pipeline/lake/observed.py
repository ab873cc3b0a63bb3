"""What conversations and items come to in the buckets of usage, and who is to be asked for.

Belongs here: publishing `observed_1m`, `observed_1h` and `observed_1d` from what is landed, and the
pairs of user and key that usage names. Does not belong here: landing (`pipeline.lake.records`),
what differs from usage and why (`pipeline.lake.reconcile`).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa

from pipeline.lake import engine, files
from pipeline.lake.by_day import write_days
from pipeline.lake.publication import publish
from pipeline.lake.schemas import CONVERSATIONS, ITEMS, OBSERVED, USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import Window, day_window

_CASCADE: Final = (OBSERVED["1m"], OBSERVED["1h"], OBSERVED["1d"])


def observe_days(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    days: Iterable[date],
    through: int,
    read_at: float,
) -> tuple[date, ...]:
    """Publish the observed buckets of each of `days` anew; returns the days that have changed.

    Counted is what lies before `through` (Unix seconds, on a minute's edge); a day after it gets a
    file without rows, as does a day on which nothing was seen. All days are counted in one go.
    `read_at` is when the listings were asked for (Unix seconds).
    """
    wanted = sorted(set(days))
    if not wanted:
        return ()

    def window(day: date) -> Window:
        whole = day_window(day)
        return Window(whole.start, min(max(through, whole.start), whole.end))

    with ExitStack() as stack:
        # What is counted must not be landed half in the meantime.
        stack.enter_context(lake.lock("records"))
        folder = stack.enter_context(lake.staging())
        inputs = {
            "created_conversations": (CONVERSATIONS, lake.files("conversations", wanted)),
            "conversations": (CONVERSATIONS, lake.files("conversations")),
            "items": (ITEMS, lake.files("items", wanted)),
        }
        engine.bind(con, inputs)
        staged: dict[str, dict[date, Path]] = {}
        for dataset in _CASCADE:
            params = {"through": through} if dataset is OBSERVED["1m"] else None
            rows = con.sql(engine.sql(dataset.name), params=params)
            by_day = write_days(
                dataset,
                rows.to_arrow_reader(files.ROW_GROUP),
                "start_time",
                folder,
                window=window,
                also=wanted,
            )
            engine.bind(con, {dataset.name: (dataset, by_day.values())})
            staged[dataset.name] = by_day
        return tuple(
            day
            for day in wanted
            if publish(
                con,
                lake,
                day,
                {name: of[day] for name, of in staged.items()},
                {"conversations": read_at},
            )
        )


def active_pairs(con: duckdb.DuckDBPyConnection, lake: Lake, window: Window) -> pa.Table:
    """Who used the API in a window, by `usage_1m`: `user_id`, `api_key_id` and the three measures.

    A row per pair with any measure above zero; the window lies on minute edges.
    """
    engine.bind(con, {"usage_1m": (USAGE["1m"], lake.files("usage_1m", window.days))})
    params = {"start": window.start, "end": window.end}
    return con.sql(engine.sql("active_pairs"), params=params).to_arrow_table()


class PairTotals(NamedTuple):
    """What usage reports of a user and key over all days, and what was observed of them."""

    conversations: int = 0
    items: int = 0
    operations: int = 0
    seen_conversations: int = 0
    seen_items: int = 0


def pair_totals(
    con: duckdb.DuckDBPyConnection, lake: Lake
) -> dict[tuple[str | None, str | None], PairTotals]:
    """The totals of each (key, user), over all days that are loaded."""
    inputs = {
        name: (dataset, lake.files(name))
        for name, dataset in (("usage_1d", USAGE["1d"]), ("observed_1d", OBSERVED["1d"]))
    }
    engine.bind(con, inputs)
    return {
        (key, user): PairTotals(*totals)
        for user, key, *totals in con.sql(engine.sql("pair_totals")).fetchall()
    }
