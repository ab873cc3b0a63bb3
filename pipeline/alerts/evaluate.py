"""All alerts over a lake, at a moment: which hour and day are judged, from which rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Final

import duckdb

from pipeline.alerts.alert import Alert, Evaluation
from pipeline.alerts.lateness import NOTHING, late
from pipeline.alerts.silence import silent
from pipeline.alerts.spending import spent
from pipeline.alerts.spikes import spikes
from pipeline.lake import engine
from pipeline.lake.schemas import COVERAGE, USAGE, USAGE_DATASETS
from pipeline.lake.snapshot import Damage, DamagedError, Snapshot, reason
from pipeline.lake.store import Lake
from pipeline.pricing.hand_written import Files
from pipeline.query.status import Days, states
from pipeline.thresholds import LEAST_DAYS, MOST, Thresholds
from pipeline.timeline import DAY, SECONDS, Width, day_of, floor_to

_HOURS: Final = USAGE["1h"].name

ALERTS: Final[tuple[Alert, ...]] = ("late", "spike", "zero", "budget")


def evaluate(
    lake: Lake,
    thresholds: Thresholds,
    now: float,
    alerts: Iterable[Alert] = ALERTS,
    files: Files | None = None,
) -> Mapping[Alert, Evaluation]:
    """What each of `alerts` finds at `now` (Unix seconds).

    Spikes and silence are judged up to the last hour that is complete at `now`. An alert that can't
    read what it needs says so, and the others are evaluated. All of them read one snapshot.
    `files` says where prices and budgets are; without it there are none.
    """
    try:
        snapshot = Snapshot(lake)
        known = states(snapshot, None, None, now)
    except (duckdb.Error, OSError) as error:
        return dict.fromkeys(alerts, _broken(lake, error))
    return {
        alert: spent(lake, snapshot, files, now)
        if alert == "budget"
        else _evaluate(alert, lake, snapshot, known, thresholds, now)
        for alert in alerts
    }


def _broken(lake: Lake, error: Exception) -> Evaluation:
    return Evaluation(broken=f"can't be looked for: {reason(lake, error)}")


def _evaluate(
    alert: Alert, lake: Lake, snapshot: Snapshot, known: Days, thresholds: Thresholds, now: float
) -> Evaluation:
    try:
        if alert == "late":
            # A damaged table of usage is a day that is to be read again, which is late itself.
            blind = [one for one in known.damage if one.path.stem not in USAGE_DATASETS]
            return _with_damage(late(known, now, thresholds), blind)
        if known.loaded_through is None:
            return Evaluation(unjudged=NOTHING)
        through = floor_to(min(known.loaded_through, int(now)), "1h")
        widths: Sequence[Width] = ("1h", "1d") if alert == "spike" else ("1h",)
        judged = [_judge(alert, snapshot, width, through, thresholds) for width in widths]
    except (duckdb.Error, OSError) as error:
        return _broken(lake, error)
    findings = [finding for one in judged for finding in one.findings]
    return Evaluation(
        findings[:MOST],
        sum(one.more for one in judged) + len(findings[MOST:]),
        next((one.unjudged for one in judged if one.unjudged), None),
        next((one.broken for one in judged if one.broken), None),
    )


def _with_damage(evaluation: Evaluation, damage: Sequence[Damage]) -> Evaluation:
    """What was found without the files that are damaged, with a message about those."""
    if damage:
        broken = f"can't be looked for in everything: {DamagedError(damage)}"
        return replace(evaluation, broken=broken)
    return evaluation


def _judge(
    alert: Alert, snapshot: Snapshot, width: Width, through: int, thresholds: Thresholds
) -> Evaluation:
    """What is found in the last bucket of `width`, or the last hours, that end by `through`."""
    end = floor_to(through, width)
    name, last = USAGE[width].name, day_of(end - 1)
    first = last - timedelta(days=thresholds.baseline_days + 1)
    days = [day for day in snapshot.versions if first <= day <= last]
    whole = [day for day in days if not snapshot.is_damaged(name, day)]
    with closing(engine.connect()) as con:
        engine.bind(con, {"counted": (USAGE[width], snapshot.files(name, days))})
        snapshot.bind_coverage(con, whole)  # an hour counts as loaded where both tables have it
        evaluation = _comparable(con)
        if evaluation is None and alert == "spike":
            evaluation = spikes(con, width, end - SECONDS[width], thresholds)
        elif evaluation is None:
            evaluation = silent(con, end, thresholds)
    return _with_damage(evaluation, snapshot.damage_of(days, {name, _HOURS, COVERAGE.name}))


def _comparable(con: duckdb.DuckDBPyConnection) -> Evaluation | None:
    """None where there is enough to compare with; what to say where there is not."""
    rows = con.execute(engine.sql("status_days"), {"dataset": _HOURS}).fetchall()
    hours = sum(final + provisional for _, final, provisional, *_ in rows)
    if hours * SECONDS["1h"] > LEAST_DAYS * DAY:
        return None
    return Evaluation(
        unjudged=f"a baseline takes {LEAST_DAYS} days that are loaded, and more to judge"
    )
