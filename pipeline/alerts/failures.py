"""A model whose responses fail far more often than they usually do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import duckdb

from pipeline.alerts.alert import Evaluation, Finding, equals, moment, shown
from pipeline.lake import engine
from pipeline.messages import count
from pipeline.thresholds import LEAST_DAYS, MOST, Thresholds
from pipeline.timeline import SECONDS, Width, iso


class Failing(NamedTuple):
    """A row of `sql/alert_failures.sql`."""

    model: str | None
    responses: int
    failed: int
    usual_responses: int
    usual_failed: int
    has_usual: bool
    num_spans: int


def failures(
    con: duckdb.DuckDBPyConnection, width: Width, start: int, thresholds: Thresholds
) -> Evaluation:
    """Which models fail far more often than usual in the bucket of `width` that starts at `start`.

    `con` has the views `coverage` and `counted`, which is the table of tokens of that width.
    """
    params: Mapping[str, Any] = {
        "judged_start": start,
        "days": thresholds.baseline_days,
        "least_days": LEAST_DAYS,
        "times": thresholds.spike_times,
        "least_percent": thresholds.failed_percent,
        "least_failed": thresholds.failed_responses,
    }
    rows = con.execute(engine.sql("alert_failures"), params).fetchall()
    found = [Failing(*row) for row in rows]
    return Evaluation([_finding(one, width, start) for one in found[:MOST]], len(found[MOST:]))


def _finding(failing: Failing, width: Width, start: int) -> Finding:
    when = f"on {iso(start)[:10]}" if width == "1d" else f"in the hour from {iso(start)}"
    usual = f"{100 * failing.usual_failed / failing.usual_responses:.1f}%"
    compared = (
        f"usually {usual}" if failing.has_usual else f"it is new, and all models have {usual}"
    )
    return Finding(
        alert="failures",
        severity="warning",
        subject=f"{width} model {failing.model!r}",
        since=start,
        what=(
            f"{shown(failing.model, 'model')}: {failing.failed:,} of "
            f"{count(failing.responses, 'response')} failed {when}, "
            f"{100 * failing.failed / failing.responses:.1f}%; {compared} "
            f"({failing.usual_failed:,} of {failing.usual_responses:,} in "
            f"{count(failing.num_spans, 'day')})"
        ),
        query=(
            "select status, user_id, api_key_id, count(*) as responses from responses "
            f"where {equals('model', failing.model)} and created_at >= {moment(start)} and "
            f"created_at < {moment(start + SECONDS[width])} group by all "
            "order by responses desc, status, user_id, api_key_id limit 20"
        ),
    )
