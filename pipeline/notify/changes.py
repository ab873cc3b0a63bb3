"""What began, got worse and ended between two evaluations of the alerts.

Something is open from the evaluation that finds it first to the first one that looked for it and
did not find it. What could not be looked for stays open: unknown is not ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from pipeline.alerts.alert import Alert, Evaluation, Finding, Severity, lasting
from pipeline.messages import VERIFY, count
from pipeline.notify.message import Message, Part
from pipeline.timeline import iso

Phase = Literal["began", "worse", "ended"]

_STATUS: Final = "mka1-usage status"
"""What helps where data is late: it prints the commands that load what lacks."""
_MOST: Final = 15
"""Changes that one message lists, errors first; the others are counted. Slack takes 50 blocks."""


class Open(msgspec.Struct, frozen=True):
    """Something that was reported and has not ended. Times are Unix seconds."""

    id: str
    alert: str
    severity: Severity
    what: str
    since: int
    command: str
    began_at: int
    """When the evaluation was that found it first."""
    parts: tuple[str, ...] = ()


class Change(NamedTuple):
    """What became of something; `at` is when it was evaluated."""

    phase: Phase
    about: Open
    at: int


def changes(
    before: Mapping[str, Open], found: Mapping[Alert, Evaluation], now: float
) -> tuple[dict[str, Open], list[Change]]:
    """What is open after an evaluation at `now` (Unix seconds), by id, and what changed."""
    at = int(now)
    after: dict[str, Open] = {}
    changed: list[Change] = []
    for one in _found(found, at):
        known = before.get(one.id)
        if known is None:
            after[one.id] = one
            changed.append(Change("began", one, at))
        elif _is_worse(one, known):
            after[one.id] = msgspec.structs.replace(one, began_at=known.began_at)
            changed.append(Change("worse", after[one.id], at))
        else:  # a day that is left of several, or a warning again: what is open is what it was
            parts = tuple(part for part in known.parts if part in one.parts)
            after[one.id] = msgspec.structs.replace(known, parts=parts, severity=one.severity)
    for known in before.values():
        if known.id not in after:
            if _is_looked_for(known, found):
                changed.append(Change("ended", known, at))
            else:
                after[known.id] = known
    return after, changed


def message_of(changed: Sequence[Change], now: float) -> Message:
    """The message about changes, of which there are some."""
    order = {("began", "error"): 0, ("worse", "error"): 1, ("began", "warning"): 2}
    ordered = sorted(
        changed, key=lambda one: order.get((one.phase, one.about.severity), _last(one))
    )
    shown, more = ordered[:_MOST], len(ordered[_MOST:])
    parts = [_part(one) for one in shown]
    if more:
        parts.append(Part(f"and {more:,} more", command="mka1-usage alerts"))
    names = [f"{one.about.id}/{one.phase}" for one in ordered]
    return Message(
        id=_digest("alerts", str(int(now)), *names),
        kind="alerts",
        title=_title(ordered),
        made_at=int(now),
        parts=tuple(parts),
        data={"changes": [_data(one) for one in ordered]},
    )


def _last(one: Change) -> int:
    return 4 if one.phase == "ended" else 3


def _found(found: Mapping[Alert, Evaluation], at: int) -> Iterator[Open]:
    for alert, evaluation in found.items():
        for finding in evaluation.findings:
            yield _open(alert, finding, at)
    broken: dict[str, list[Alert]] = {}
    for alert, evaluation in found.items():
        if evaluation.broken is not None:
            broken.setdefault(evaluation.broken, []).append(alert)
    for reason, alerts in broken.items():  # what breaks all of them is told once
        yield Open(
            id=_digest("broken", reason),
            alert="broken",
            severity="error",
            what=f"{', '.join(alerts)}: {reason}",
            since=at,
            command=VERIFY,
            began_at=at,
        )


def _open(alert: Alert, finding: Finding, at: int) -> Open:
    return Open(
        id=_id(alert, finding.topic, finding.since),
        alert=alert,
        severity=finding.severity,
        what=finding.what,
        since=finding.since,
        command=_STATUS if alert == "late" else finding.command,
        began_at=at,
        parts=finding.parts,
    )


def _id(alert: str, topic: str, since: int) -> str:
    """What a user does hour after hour is one thing; what is used of a budget, one a period."""
    return _digest(alert, topic, str(since) if alert == "budget" else "")


def _is_worse(now: Open, before: Open) -> bool:
    rose = now.severity == "error" and before.severity == "warning"
    return rose or not set(now.parts) <= set(before.parts)


def _is_looked_for(known: Open, found: Mapping[Alert, Evaluation]) -> bool:
    """Whether it would have been found if it were still so."""
    if known.alert == "broken":
        return True
    by_name: Mapping[str, Evaluation] = {str(name): one for name, one in found.items()}
    evaluation = by_name.get(known.alert)
    if evaluation is None:
        return False
    if evaluation.broken is not None or evaluation.more:
        return False
    if evaluation.unknown:
        return known.id not in {_id(known.alert, *one) for one in evaluation.unknown}
    return evaluation.unjudged is None


def _part(change: Change) -> Part:
    about = change.about
    if change.phase == "ended":
        took = lasting(max(0, change.at - about.began_at))
        heading = f"Ended: {about.severity}, since {iso(about.since)}"
        lines: tuple[str, ...] = (
            f"It was: {about.what}",
            f"It is not found any more at {iso(change.at)}, {took} after it was reported.",
        )
        return Part(heading, lines, about.command, "ended")
    word = "Began" if change.phase == "began" else "Got worse"
    heading = f"{word}: {about.severity}, since {iso(about.since)}"
    return Part(heading, (about.what,), about.command, about.severity)


def _data(change: Change) -> dict[str, object]:
    about = change.about
    return {
        "phase": change.phase,
        "id": about.id,
        "alert": about.alert,
        "severity": about.severity,
        "what": about.what,
        "since": iso(about.since),
        "reported_at": iso(about.began_at),
        "ended_at": iso(change.at) if change.phase == "ended" else None,
        "command": about.command,
    }


def _title(changed: Sequence[Change]) -> str:
    """What stands in a mail's list of mails: how bad it is, and how much."""
    if len(changed) == 1:
        one = changed[0]
        lead = "ended" if one.phase == "ended" else one.about.severity
        return f"{lead}: {one.about.what}"
    number = {
        "error": sum(_is_new(it) and it.about.severity == "error" for it in changed),
        "warning": sum(_is_new(it) and it.about.severity == "warning" for it in changed),
    }
    words = [count(value, name) for name, value in number.items() if value]
    if over := sum(not _is_new(it) for it in changed):
        words.append(f"{over:,} ended")
    return ", ".join(words)


def _is_new(change: Change) -> bool:
    return change.phase != "ended"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
