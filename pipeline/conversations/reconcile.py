"""What the API reports beside what could be observed: publishing `reconciliation`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.conversations import cursors
from pipeline.lake import engine, files
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.dropped_items import bind_dropped
from pipeline.lake.files import DISPUTED
from pipeline.lake.manifest import days_without_items, has_all_records, is_final, manifest_of
from pipeline.lake.partitioned_write import write_days
from pipeline.lake.schemas import (
    CONVERSATIONS,
    ITEMS,
    METERS,
    OBSERVED,
    RECONCILIATION,
    RESPONSES,
    TOKENS,
    USAGE,
)
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, day_of, day_window

_RESPONSES: Final = "responses"
"""The usage endpoint whose tokens are those of responses."""


def reconcile_days(
    con: duckdb.DuckDBPyConnection, lake: Lake, days: Iterable[date]
) -> tuple[date, ...]:
    """Publish the reconciliation of each of `days`; returns the days that have changed.

    A function of what is stored: usage and observed buckets of the days, all records, and what the
    syncs have noted of the listings that they read (`pipeline.conversations.cursors`). All days are
    published at one stroke. A day whose records are not all there is left as it is. Raises
    FileNotFoundError when a day lacks usage_1d or observed_1d.
    """
    with lake.lock("records"), lake.staging() as folder:
        standing = {day: lake.version(day) for day in sorted(set(days))}
        based_on = {day: it for day, it in standing.items() if has_all_records(manifest_of(it))}
        windows = {day: _covered(lake, day) for day in based_on}
        final = [day for day in windows if is_final(lake, day, manifest_of(based_on[day]))]
        usage = {"usage_1d": (USAGE["1d"], lake.files("usage_1d", windows))}
        observed = {"observed_1d": (OBSERVED["1d"], lake.files("observed_1d", windows))}
        records = {
            "conversations": (CONVERSATIONS, lake.files("conversations")),
            "items": (ITEMS, lake.files("items")),
            "responses": (RESPONSES, lake.files("responses")),
        }
        engine.bind(con, usage | observed | records)
        bind_dropped(con, days_without_items(lake))
        con.register("visits", cursors.visits(lake, windows))
        con.register("visited", con.sql(engine.sql("visited")).to_arrow_table())
        con.register("final_days", _days(final))
        shared = (
            name for path in lake.files("conversations") for name in files.noted(path, DISPUTED)
        )
        con.register("shared", pa.table({"id": pa.array(list(shared), pa.string())}))
        lost = cursors.load(lake).unreadable()
        con.register("lost", pa.table({"id": pa.array(list(lost), pa.string())}))
        rows = con.sql(engine.sql(RECONCILIATION.name))
        if metered := _bind_tokens(con, lake, based_on):
            rows = rows.union(metered).order(
                "day, user_id NULLS FIRST, api_key_id NULLS FIRST, measure"
            )
        by_day = write_days(
            RECONCILIATION,
            rows.to_arrow_reader(files.ROW_GROUP),
            "day",
            folder,
            window=windows.__getitem__,
            also=windows,
        )
        changes = {
            day: Change({RECONCILIATION.name: path}, done={"reconcile"}, based_on=based_on[day])
            for day, path in by_day.items()
        }
        changed = publish_days(con, lake, changes)
    return tuple(day for day in by_day if changed[day])


def _bind_tokens(
    con: duckdb.DuckDBPyConnection, lake: Lake, versions: Mapping[date, Path | None]
) -> duckdb.DuckDBPyRelation | None:
    """The comparison of tokens on days of which the endpoint of responses is loaded; None: none.

    `con` has the view `visited`.
    """
    manifests = {day: manifest_of(version) for day, version in versions.items()}
    readings = {
        day: reading
        for day, record in manifests.items()
        if (reading := record.readings.get(_RESPONSES)) is not None
    }
    if not readings:
        return None
    final = [
        day
        for day, reading in readings.items()
        if reading.read_at >= lake.final_from(day) and not reading.disputed
    ]
    meters, tokens = METERS["1d"], TOKENS["1d"]
    inputs = {it.name: (it, lake.files(it.name, readings)) for it in (meters, tokens)}
    engine.bind(con, inputs)
    con.register("metered_days", _days([*readings]))
    con.register("final_metered_days", _days(final))
    return con.sql(engine.sql("reconciliation_tokens"))


def open_days(con: duckdb.DuckDBPyConnection, lake: Lake) -> list[date]:
    """The days with a difference that what is stored later may explain.

    Not those whose records are not all there: these are not reconciled again.
    """
    files = lake.files(RECONCILIATION.name)
    engine.bind(con, {RECONCILIATION.name: (RECONCILIATION, files)})
    found = con.sql(engine.sql("open_days")).fetchall()
    days = [day_of(number * DAY) for (number,) in found]
    return [day for day in days if has_all_records(manifest_of(lake.version(day)))]


def _days(days: Sequence[date]) -> pa.Table:
    micros = [day_window(day).start * 1_000_000 for day in days]
    moments = pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"start_time": moments})


def _covered(lake: Lake, day: date) -> Window:
    """The part of the day that usage covers. FileNotFoundError where one side is missing."""
    usage, observed = lake.loaded("usage_1d", day), lake.loaded("observed_1d", day)
    if usage is None or observed is None:
        missing = "usage_1d" if usage is None else "observed_1d"
        raise FileNotFoundError(
            f"{day} cannot be reconciled: {missing} has no such day; load the day's usage and its "
            "conversations first"
        )
    return usage.window
