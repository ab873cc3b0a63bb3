"""What the API reports beside what could be observed: every difference gets a class.

Belongs here: which files are compared, publishing `reconciliation`, and reading the worst of it.
Does not belong here: the rules (`sql/reconciliation.sql` states them), or reading the listings.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final, Literal, get_args

import duckdb
import pyarrow as pa

from pipeline.lake import engine, files
from pipeline.lake.by_day import write_days
from pipeline.lake.publication import publish
from pipeline.lake.schemas import CONVERSATIONS, ITEMS, OBSERVED, RECONCILIATION, RESPONSES, USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import Window, day_window

Class = Literal["not derivable", "match", "late", "undated", "deleted", "unexplained"]
CLASSES: Final[tuple[Class, ...]] = get_args(Class)
"""In the order in which they are tried; `sql/reconciliation.sql` says what each means."""


def reconcile_days(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    days: Iterable[date],
    *,
    visited: Iterable[tuple[str, str | None]],
    lost: Iterable[str],
    final_before: date,
) -> tuple[date, ...]:
    """Publish the reconciliation of each of `days`; returns the days that have changed.

    `visited` are the listings that were read, as (key, user), the user None for the key owner's
    own; `lost` the ids of conversations whose items could not be read, or that a complete reading
    no longer saw; from `final_before` on, the API may still restate its usage. Evidence is taken
    from all that is landed. Raises FileNotFoundError when a day lacks usage_1d or observed_1d.
    """
    windows = {day: _covered(lake, day) for day in sorted(set(days))}
    listings = pa.Table.from_pylist(
        [{"api_key_id": key, "user_id": user} for key, user in visited], schema=_LISTING
    )
    inputs = {
        "usage_1d": (USAGE["1d"], lake.files("usage_1d", windows)),
        "observed_1d": (OBSERVED["1d"], lake.files("observed_1d", windows)),
        "conversations": (CONVERSATIONS, lake.files("conversations")),
        "items": (ITEMS, lake.files("items")),
        "responses": (RESPONSES, lake.files("responses")),
    }
    with lake.lock("records"), lake.staging() as folder:
        engine.bind(con, inputs)
        con.register("visited", listings)
        con.register("lost", pa.table({"id": pa.array(list(lost), pa.string())}))
        params = {"final_before": day_window(final_before).start}
        rows = con.sql(engine.sql(RECONCILIATION.name), params=params)
        by_day = write_days(
            RECONCILIATION,
            rows.to_arrow_reader(files.ROW_GROUP),
            "day",
            folder,
            window=windows.__getitem__,
            also=windows,
        )
        return tuple(
            day
            for day, path in by_day.items()
            if publish(con, lake, day, {RECONCILIATION.name: path})
        )


def worst(con: duckdb.DuckDBPyConnection, lake: Lake, days: Iterable[date], limit: int) -> pa.Table:
    """The rows that neither match nor are out of reach: the unexplained first, then the largest."""
    _bind(con, lake, days)
    query = engine.sql("reconciliation_worst")
    return con.sql(query, params={"at_most": limit}).to_arrow_table()


def summary(con: duckdb.DuckDBPyConnection, lake: Lake, days: Iterable[date]) -> pa.Table:
    """How many comparisons of each measure fell into each class, and what they come to."""
    _bind(con, lake, days)
    return con.sql(engine.sql("reconciliation_summary")).to_arrow_table()


_LISTING: Final = pa.schema([("api_key_id", pa.string()), ("user_id", pa.string())])


def _bind(con: duckdb.DuckDBPyConnection, lake: Lake, days: Iterable[date]) -> None:
    engine.bind(con, {"reconciliation": (RECONCILIATION, lake.files("reconciliation", days))})


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
