"""All alerts over a lake, at a moment.

Belongs here: which hour and day are judged, and what each alert is given. Does not belong here:
judging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb

from pipeline.alerts.finding import Alert, Looked
from pipeline.alerts.lateness import NOTHING, late
from pipeline.alerts.quota import spending
from pipeline.alerts.silence import silent
from pipeline.alerts.spikes import spikes
from pipeline.alerts.thresholds import LEAST_DAYS, MOST, Thresholds
from pipeline.lake import engine
from pipeline.lake.schemas import COVERAGE, USAGE
from pipeline.lake.store import Lake
from pipeline.status import states
from pipeline.tally import read_tally
from pipeline.timeline import DAY, SECONDS, Width, day_of, day_range, floor_to

ALERTS: Final[tuple[Alert, ...]] = ("late", "spike", "zero", "quota")


def look(
    lake: Lake,
    tally: Path,
    thresholds: Thresholds,
    now: float,
    alerts: Iterable[Alert] = ALERTS,
) -> Mapping[Alert, Looked]:
    """What each of `alerts` finds at `now` (Unix seconds); `tally` is the folder of the tally.

    Spikes and silence are judged up to the last hour that is complete at `now`. An alert that can't
    read what it needs says so, and keeps no other from being looked for.
    """
    return {alert: _look(alert, lake, tally, thresholds, now) for alert in alerts}


def _look(alert: Alert, lake: Lake, tally: Path, thresholds: Thresholds, now: float) -> Looked:
    try:
        if alert == "quota":
            return spending(read_tally(tally, day_of(int(now))), tally, now, thresholds)
        known = states(lake, None, None, now)
        if alert == "late":
            return late(known, now, thresholds)
        if known.loaded_through is None:
            return Looked(unjudged=NOTHING)
        through = floor_to(min(known.loaded_through, int(now)), "1h")
        if alert == "spike":
            return _hour_and_day(lake, through, thresholds)
        with _baseline(lake, "1h", through, thresholds) as con:
            return _comparable(con) or silent(con, through, thresholds)
    except (duckdb.Error, OSError) as error:
        reason = " ".join(str(error).split())
        return Looked(broken=f"can't be looked for: {reason}")


def _hour_and_day(lake: Lake, through: int, thresholds: Thresholds) -> Looked:
    """Spikes of the last complete hour, and of the last complete day."""
    widths: tuple[Width, Width] = ("1h", "1d")
    looked: list[Looked] = []
    for width in widths:
        end = floor_to(through, width)
        with _baseline(lake, width, end, thresholds) as con:
            looked.append(_comparable(con) or spikes(con, width, end - SECONDS[width], thresholds))
    findings = [finding for one in looked for finding in one.findings]
    return Looked(
        findings[:MOST],
        sum(one.more for one in looked) + len(findings[MOST:]),
        next((one.unjudged for one in looked if one.unjudged), None),
    )


@contextmanager
def _baseline(
    lake: Lake, width: Width, end: int, thresholds: Thresholds
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views `counted` and `coverage` over what can matter before `end`."""
    days = _days(end, thresholds)
    with closing(engine.connect()) as con:
        files = {name: lake.files(name, days) for name in (USAGE[width].name, COVERAGE.name)}
        engine.bind(
            con,
            {
                "counted": (USAGE[width], files[USAGE[width].name]),
                "coverage": (COVERAGE, files[COVERAGE.name]),
            },
        )
        yield con


def _days(end: int, thresholds: Thresholds) -> list[date]:
    last = day_of(end - 1)
    return list(day_range(last - timedelta(days=thresholds.baseline_days + 1), last))


def _comparable(con: duckdb.DuckDBPyConnection) -> Looked | None:
    """None where there is enough to compare with; what to say where there is not."""
    rows = con.execute(engine.sql("status_days"), {"dataset": USAGE["1h"].name}).fetchall()
    hours = sum(final + provisional for _, final, provisional, *_ in rows)
    if hours * SECONDS["1h"] > LEAST_DAYS * DAY:
        return None
    return Looked(unjudged=f"a baseline takes {LEAST_DAYS} days that are loaded, and more to judge")
