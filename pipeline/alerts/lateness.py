"""Data that is later than expected, and days that were left out."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final, Literal

from pipeline.alerts.alert import Evaluation, Finding, lasting, moment
from pipeline.messages import be, count
from pipeline.query.status import Days, State
from pipeline.thresholds import Thresholds
from pipeline.timeline import closed_through, day_of, day_window, in_words, iso

NOTHING: Final = "nothing is loaded"


def late(days: Days, now: float, thresholds: Thresholds) -> Evaluation:
    """Whether the lake is behind at `now` (Unix seconds), and which earlier days need a load."""
    if days.complete_through is None:
        return Evaluation(unjudged=NOTHING)
    findings: list[Finding] = []
    # A hole is a finding of its own below: it does not make newer data late.
    newest = max(days.complete_through, days.loaded_through or 0)
    behind = closed_through(now) - newest
    if behind > 60 * thresholds.late_minutes:
        findings.append(_behind(days.complete_through, newest, behind, thresholds.late_minutes))
    today, last = day_of(closed_through(now) - 1), day_of(newest - 1)
    begin = today - timedelta(days=thresholds.watched_days)
    states = {day: state for day, state in sorted(days.states.items()) if begin <= day}
    watched = {day: state for day, state in states.items() if day < today}
    missing = [day for day, state in watched.items() if state == "missing" and day < last]
    in_part = [day for day in watched if day in days.in_part]
    disputed = [day for day, state in states.items() if state == "disputed"]
    stale = [
        day
        for day, state in watched.items()
        if state == "stale" and day < last and day not in days.in_part
    ]
    left_out: list[tuple[State | Literal["in part"], list[date], str]] = [
        ("missing", missing, "not loaded, though later ones are"),
        ("in part", in_part, "loaded in part, though later ones are loaded"),
        (
            "disputed",
            disputed,
            "disputed: the totals differ from the API's own, and each run loads them again",
        ),
        ("stale", stale, "stale: the API may have restated them after they were read"),
    ]
    findings += [_days(subject, found, why) for subject, found, why in left_out if found]
    return Evaluation(findings)


def _behind(complete_through: int, newest: int, behind: int, allowed: int) -> Finding:
    how, hole = "complete", ""
    if complete_through < newest:
        how, hole = "loaded", f", and complete through {iso(complete_through)} only"
    return Finding(
        alert="late",
        severity="error",
        subject="behind",
        since=newest,
        what=(
            f"usage is {how} through {iso(newest)} only, {lasting(behind)} ago "
            f"({lasting(60 * allowed)} are allowed){hole}"
        ),
        query=(
            "select start_time, status, complete_through, fetched_at from coverage "
            f"where dataset = 'usage_1h' and end_time >= {moment(newest)} "
            "order by start_time limit 24"
        ),
    )


def _days(subject: State | Literal["in part"], days: list[date], why: str) -> Finding:
    number = f"{count(len(days), 'day')} {be(len(days))}"
    since = day_window(days[0]).start
    return Finding(
        alert="late",
        severity="warning" if subject == "stale" else "error",
        subject=f"{subject} {in_words(days)}",
        since=since,
        what=f"{number} {why}: {in_words(days)}",
        query=(
            "select start_time, status, complete_through, fetched_at from coverage "
            "where dataset = 'usage_1d' "
            f"and start_time >= {moment(since)} and start_time < "
            f"{moment(day_window(days[-1]).end)} order by start_time"
        ),
        kind=subject,
        parts=tuple(map(str, days)),
    )
