"""Buckets of any width on the wall clock of any time zone, and the table to count them from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import engine
from pipeline.timeline import DAY, SECONDS, WIDTHS, AnyWidth, Width, Window
from pipeline.zones import offsets

NATIVE: Final[dict[AnyWidth, Width]] = {width: width for width in WIDTHS}
"""The widths that have a table, whose buckets are those of UTC."""
LONGEST: Final[dict[AnyWidth, int]] = {
    **{"1m": 60, "5m": 300, "15m": 900, "1h": 3_600},
    # A clock has been moved by a day at most, where a place changed sides of the date line.
    **{"6h": 6 * 3_600 + DAY, "1d": 2 * DAY, "1w": 8 * DAY, "1mo": 32 * DAY},
}
"""Seconds that no bucket of a width exceeds."""
ZONE: Final = pa.schema(
    [(name, pa.int64()) for name in ("zone_start", "zone_end", "clock_offset", "offset_before")]
)
"""The columns that `sql/bucket_edges.sql` wants to know of a zone."""
MARGIN: Final = 34 * DAY
"""How far a zone has to be known before and after what is asked for: a bucket, and a day."""


def is_native(width: AnyWidth, tz: str) -> bool:
    """Whether a table has these buckets as they are."""
    return tz == "UTC" and width in NATIVE


def buckets(
    con: duckdb.DuckDBPyConnection, window: Window, width: AnyWidth, tz: str
) -> list[Window]:
    """All buckets that overlap `window`, in order and without a gap.

    ValueError where there is no such zone.
    """
    if is_native(width, tz):
        seconds = SECONDS[NATIVE[width]]
        whole = window.widened(NATIVE[width])
        return [Window(at, at + seconds) for at in range(whole.start, whole.end, seconds)]
    known = offsets(tz, Window(window.start - MARGIN, window.end + MARGIN))
    columns = zip(*((it.start, it.end, it.seconds, it.before) for it in known), strict=True)
    con.register("zone", pa.table([pa.array(c, pa.int64()) for c in columns], schema=ZONE))
    con.register("span", edges([window]))
    rows = con.execute(
        "SELECT CAST(epoch(start_time) AS BIGINT), CAST(epoch(end_time) AS BIGINT) "
        f"FROM ({engine.sql('bucket_edges')})",
        {"width": width},
    ).fetchall()
    return [Window(start, end) for start, end in rows]


def edges(windows: Sequence[Window]) -> pa.Table:
    """The windows as a table of start_time and end_time, as `sql/usage_by.sql` wants them."""
    moment = pa.timestamp("s", tz="UTC")
    starts, ends = [it.start for it in windows], [it.end for it in windows]
    return pa.table({"start_time": pa.array(starts, moment), "end_time": pa.array(ends, moment)})


def finest(windows: Sequence[Window]) -> Width:
    """The widest width whose buckets of UTC none of these windows cuts."""
    ends = {end for window in windows for end in (window.start, window.end)}
    return next(
        width for width in reversed(WIDTHS) if not any(end % SECONDS[width] for end in ends)
    )
