"""A user or key far above its own baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import duckdb

from pipeline.alerts.alert import Evaluation, Finding, equals, moment, shown
from pipeline.lake import engine
from pipeline.messages import count
from pipeline.thresholds import LEAST_DAYS, MOST, Thresholds
from pipeline.timeline import DAY, SECONDS, Width, iso

_COLUMN: Final = {"user": "user_id", "key": "api_key_id"}


class Spike(NamedTuple):
    """A row of `sql/spikes.sql`, without the start of its bucket."""

    kind: str
    id: str | None
    operations: int
    usual: int
    has_usual: bool
    seen_on: int
    num_spans: int


def spikes(
    con: duckdb.DuckDBPyConnection, width: Width, start: int, thresholds: Thresholds
) -> Evaluation:
    """Who is far above what is usual in the bucket of `width` that starts at `start`.

    `con` has the views `coverage` and `counted`, which is the usage table of that width.
    """
    params: Mapping[str, Any] = {
        "first_start": start,
        "last_start": start,
        "days": thresholds.baseline_days,
        "least_days": LEAST_DAYS,
        "times": thresholds.spike_times,
        "at_least": thresholds.spike_operations,
    }
    found = [Spike(*row) for _, *row in con.execute(engine.sql("spikes"), params).fetchall()]
    return Evaluation([_finding(spike, width, start) for spike in found[:MOST]], len(found[MOST:]))


def _finding(spike: Spike, width: Width, start: int) -> Finding:
    who = shown(spike.id, spike.kind)
    when = f"on {iso(start)[:10]}" if width == "1d" else f"in the hour from {iso(start)}"
    bucket = "day" if width == "1d" else "busiest hour of a day"
    if spike.has_usual:
        compared = (
            f"{spike.operations / spike.usual:,.1f} times its usual {bucket} of {spike.usual:,} "
            f"(9 of 10 of {count(spike.num_spans, 'day')})"
        )
    else:
        seen = f"on {spike.seen_on} of" if spike.seen_on else "on none of"
        compared = (
            f"and it was seen {seen} the {count(spike.num_spans, 'day')} before; no other "
            f"{spike.kind}'s usual {bucket} is above {spike.usual:,}"
        )
    return Finding(
        alert="spike",
        severity="warning",
        subject=f"{width} {spike.kind} {spike.id!r}",
        since=start,
        what=f"{who}: {count(spike.operations, 'operation')} {when}, {compared}",
        query=_query(spike, start, start + SECONDS[width]),
    )


def _query(spike: Spike, start: int, end: int) -> str:
    """A user's hours with that bucket and the day before it; who used a key in that bucket."""
    condition = equals(_COLUMN[spike.kind], spike.id)
    if spike.kind == "user":
        return (
            f"select start_time, api_key_id, num_operations from usage_1h where {condition} "
            f"and start_time >= {moment(start - DAY)} and start_time < {moment(end)} order by all"
        )
    return (
        f"select user_id, sum(num_operations) as operations from usage_1h where {condition} "
        f"and start_time >= {moment(start)} and start_time < {moment(end)} "
        "group by user_id order by operations desc, user_id limit 20"
    )
