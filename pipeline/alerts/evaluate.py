"""All alerts over a lake, at a moment: which hour and day are judged, from which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

import duckdb

from pipeline.alerts.alert import Alert, Evaluation
from pipeline.alerts.costs import costly
from pipeline.alerts.failures import failures
from pipeline.alerts.lateness import NOTHING, late
from pipeline.alerts.silence import silent
from pipeline.alerts.spending import spent
from pipeline.alerts.spikes import TOKENS, spikes
from pipeline.lake import engine, schemas
from pipeline.lake.completeness import of_coverage
from pipeline.lake.schemas import COVERAGE, USAGE, USAGE_DATASETS, Dataset
from pipeline.lake.snapshot import Damage, DamagedError, Snapshot, reason
from pipeline.lake.store import Lake
from pipeline.names.file import NOBODY, Files, Names, load_names
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import load_prices
from pipeline.query.status import Days, states
from pipeline.thresholds import LEAST_DAYS, MOST, Thresholds
from pipeline.timeline import DAY, SECONDS, Width, day_of, floor_to, iso

ALERTS: Final[tuple[Alert, ...]] = (
    *("late", "spike", "zero", "tokens", "cost", "failures", "budget"),
)

_SOURCES: Final[Mapping[Alert, Mapping[Width, Dataset]]] = {
    **{"spike": USAGE, "zero": USAGE},
    **dict.fromkeys(("tokens", "cost", "failures"), schemas.TOKENS),
}
"""The tables that are judged, and whose hours have to be loaded."""

Judge: TypeAlias = "Callable[[duckdb.DuckDBPyConnection, Width, int, Thresholds], Evaluation]"
"""What is found in the bucket of a width that starts then, over `counted` and `coverage`."""


def evaluate(
    lake: Lake,
    thresholds: Thresholds,
    now: float,
    alerts: Iterable[Alert] = ALERTS,
    files: Files | None = None,
) -> Mapping[Alert, Evaluation]:
    """What each of `alerts` finds at `now` (Unix seconds).

    All but `late` judge up to the last hour that is complete at `now`. An alert that can't read
    what it needs says so, and the others are evaluated. All of them read one snapshot.
    `files` says where prices, budgets and names are; without it there are none.
    """
    try:
        snapshot = Snapshot(lake)
        known = states(snapshot, None, None, now)
    except (duckdb.Error, OSError) as error:
        return dict.fromkeys(alerts, _broken(lake, error))
    judges = _judges(files, _names(files, lake))
    return {
        alert: spent(lake, snapshot, files, now)
        if alert == "budget"
        else _evaluate(alert, judges.get(alert), lake, snapshot, known, thresholds, now)
        for alert in alerts
    }


def _names(files: Files | None, lake: Lake) -> Names:
    """The names; nobody's where their file is wrong, which runs and `doctor` say."""
    try:
        return NOBODY if files is None else load_names(files, lake)
    except HandWrittenError:
        return NOBODY


def _judges(files: Files | None, names: Names) -> Mapping[Alert, Judge]:
    """How the last bucket is judged, by alert. Without prices no cost is."""
    judges: dict[Alert, Judge] = {
        "spike": partial(spikes, names=names),
        "zero": lambda con, width, start, thresholds: silent(
            con, start + SECONDS[width], thresholds
        ),
        "tokens": partial(spikes, measure=TOKENS, names=names),
        "failures": failures,
    }
    try:
        prices = None if files is None else load_prices(files)
        if prices is not None and prices.rows:
            judges["cost"] = partial(costly, prices=prices, names=names)
    except HandWrittenError as error:
        unjudged = Evaluation(unjudged=str(error))
        judges["cost"] = lambda con, width, start, thresholds: unjudged
    return judges


def _broken(lake: Lake, error: Exception) -> Evaluation:
    return Evaluation(broken=f"can't be looked for: {reason(lake, error)}")


def _evaluate(
    alert: Alert,
    judge: Judge | None,
    lake: Lake,
    snapshot: Snapshot,
    known: Days,
    thresholds: Thresholds,
    now: float,
) -> Evaluation:
    try:
        if alert == "late":
            # A damaged table of usage is a day that is to be read again, which is late itself.
            blind = [one for one in known.damage if one.path.stem not in USAGE_DATASETS]
            return _with_damage(late(known, now, thresholds), blind)
        if judge is None:
            return Evaluation()
        if known.loaded_through is None:
            return Evaluation(unjudged=NOTHING)
        through = floor_to(min(known.loaded_through, int(now)), "1h")
        widths: Sequence[Width] = ("1h",) if alert == "zero" else ("1h", "1d")
        judged = [_judge(alert, judge, snapshot, width, through, thresholds) for width in widths]
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
    alert: Alert,
    judge: Judge,
    snapshot: Snapshot,
    width: Width,
    through: int,
    thresholds: Thresholds,
) -> Evaluation:
    """What is found in the last bucket of `width`, or the last hours, that end by `through`."""
    source = _SOURCES[alert]
    dataset, hours = source[width], source["1h"].name
    last = day_of(floor_to(through, width) - 1)
    first = last - timedelta(days=thresholds.baseline_days + 1)
    days = [day for day in snapshot.versions if first <= day <= last]
    whole = [day for day in days if not snapshot.is_damaged(dataset.name, day)]
    with closing(engine.connect(snapshot.lake)) as con:
        engine.bind(con, {"counted": (dataset, snapshot.files(dataset.name, days))})
        snapshot.bind_coverage(con, whole)  # an hour counts as loaded where both tables have it
        if source is not USAGE:
            read = of_coverage(con, hours).loaded_through
            if read is None or not con.sql("SELECT start_time FROM counted LIMIT 1").fetchall():
                return Evaluation()  # where nobody syncs, nobody wants to hear of it
            if read < through - DAY:
                return Evaluation(unjudged=f"responses are read through {iso(read)} only")
            through = min(through, read)
        start = floor_to(through, width) - SECONDS[width]
        evaluation = _comparable(con, hours) or judge(con, width, start, thresholds)
    return _with_damage(evaluation, snapshot.damage_of(days, {dataset.name, hours, COVERAGE.name}))


def _comparable(con: duckdb.DuckDBPyConnection, hours: str) -> Evaluation | None:
    """None where there is enough to compare with; what to say where there is not."""
    rows = con.execute(engine.sql("status_days"), {"dataset": hours}).fetchall()
    number = sum(final + provisional for _, final, provisional, *_ in rows)
    if number * SECONDS["1h"] > LEAST_DAYS * DAY:
        return None
    return Evaluation(
        unjudged=f"a baseline takes {LEAST_DAYS} days that are loaded, and more to judge"
    )
