"""A measure that fell to zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from pipeline.alerts.alert import Evaluation, Finding, moment
from pipeline.lake import engine
from pipeline.messages import count
from pipeline.thresholds import LEAST_DAYS, Thresholds
from pipeline.timeline import DAY, SECONDS, iso


def silent(con: duckdb.DuckDBPyConnection, through: int, thresholds: Thresholds) -> Evaluation:
    """Measures that are zero in the last hours before `through`, where they never are.

    `through` (Unix seconds) is the end of the last complete hour. `con` has the views `coverage`
    and `counted`, which is usage_1h.
    """
    params: Mapping[str, Any] = {
        "through": through,
        "days": thresholds.baseline_days,
        "least_days": LEAST_DAYS,
        "least": thresholds.zero_usual,
    }
    rows = con.execute(engine.sql("alert_zero"), params).fetchall()
    return Evaluation([_finding(through, *row) for row in rows])


def _finding(
    through: int, measure: str, since: int, usual: int, num_hours: int, num_days: int
) -> Finding:
    words = measure.removeprefix("num_").replace("_", " ")
    same = (
        "the same hour usually has"
        if num_hours == 1
        else f"the same {count(num_hours, 'hour')} usually have"
    )
    hours = (through - since) // SECONDS["1h"]
    return Finding(
        alert="zero",
        severity="error",
        subject=measure,
        since=since,
        what=(
            f"no {words} since {iso(since)}, in {hours:,} h that are loaded; "
            f"{same} at least {usual:,} ({count(num_days, 'day')} compared)"
        ),
        query=(
            f"select start_time, sum({measure}) as {measure} from usage_1h "
            f"where start_time >= {moment(since - DAY)} group by start_time order by start_time"
        ),
    )
