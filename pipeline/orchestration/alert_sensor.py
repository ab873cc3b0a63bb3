"""The alerts as Dagster tells of them: checks, a sensor that evaluates them, a job that fails.

Belongs here: which asset an alert is shown at, when it is told again.

The checks block nothing, and no load evaluates them: a load may be about any day, they are about
now, and data that is late is what no load comes to see. The sensor evaluates them without a run, so
that a queue that is stuck does not silence it, and reports a check whose findings have changed.
That is what Dagster+ alert policies and the asset's health go by. What reacts to runs that fail
(`run_failure_sensor`, webhooks) sees no check: so for a new error the sensor also asks for a run
of `alerts_job`, which fails with the messages.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import dagster as dg

from pipeline.alerts.alert import Alert, Evaluation, Finding
from pipeline.alerts.evaluate import ALERTS, evaluate
from pipeline.orchestration.resources import Services


class _Shown(NamedTuple):
    """Where an alert is shown, and what holds where there is none."""

    asset: str
    check: str
    promise: str


_SHOWN: Final[Mapping[Alert, _Shown]] = {
    "late": _Shown("coverage", "data_on_time", "The lake is not behind, and no day is left out."),
    "spike": _Shown(
        "usage_1h", "usage_as_usual", "No user or key is far above what it usually peaks at."
    ),
    "zero": _Shown("usage_1h", "no_measure_at_zero", "No measure fell to zero."),
}
_KEYS: Final = {
    alert: dg.AssetCheckKey(dg.AssetKey(shown.asset), shown.check)
    for alert, shown in _SHOWN.items()
}
ALERT_CHECKS: Final = tuple(_KEYS.values())

_JOB: Final = "alerts_job"
_EVERY: Final = 600
"""Seconds between two looks."""


@dg.multi_asset_check(
    name="check_alerts",
    specs=[
        dg.AssetCheckSpec(shown.check, asset=shown.asset, description=shown.promise)
        for shown in _SHOWN.values()
    ],
    can_subset=True,
)
def check_alerts(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> Iterator[dg.AssetCheckResult]:
    """The checks as they are started by hand."""
    asked = [alert for alert in ALERTS if _KEYS[alert] in context.selected_asset_check_keys]
    for alert, evaluation in _evaluated(services, asked).items():
        told = _told(alert, evaluation)
        yield dg.AssetCheckResult(
            asset_key=told.asset_key,
            check_name=told.check_name,
            passed=told.passed,
            severity=told.severity,
            description=told.description,
            metadata=told.metadata,
        )


@dg.op
def report_alerts(context: dg.OpExecutionContext, services: dg.ResourceParam[Services]) -> None:
    """Look, and fail with what is an error."""
    errors: list[str] = []
    for evaluation in _evaluated(services, ALERTS).values():
        for line in evaluation.lines:
            context.log.warning(line)
        if evaluation.severity == "error":
            errors += evaluation.lines
    if errors:
        raise dg.Failure("\n".join(errors), allow_retries=False)


@dg.job(
    name=_JOB,
    description="Fails where something is wrong that on-call wants to know, with the messages.",
)
def alerts_job() -> None:
    """One step."""
    report_alerts()


@dg.sensor(
    name="alerts",
    job_name=_JOB,
    minimum_interval_seconds=_EVERY,
    description=(
        "Late data, users and keys far above their baseline, measures at zero, a quota nearly "
        "spent: reports the checks when their findings change, and launches alerts_job, which "
        "fails, for new errors."
    ),
)
def watch_alerts(
    context: dg.SensorEvaluationContext, services: dg.ResourceParam[Services]
) -> dg.SensorResult:
    """Tell of what is new since the last tick; the cursor is what was told."""
    before = _read_cursor(context.cursor)
    found = _evaluated(services, ALERTS)
    known = {alert: _marks(evaluation) for alert, evaluation in found.items()}
    events = [
        _told(alert, evaluation)
        for alert, evaluation in found.items()
        if alert not in before or set(before[alert]) != set(known[alert])
    ]
    new_errors = sorted(
        mark
        for alert, evaluation in found.items()
        for mark, severity in known[alert].items()
        if severity == "error" and mark not in before.get(alert, {})
    )
    number = sum(map(len, known.values()))
    return dg.SensorResult(
        asset_events=events,
        run_requests=[dg.RunRequest(run_key=_digest(*new_errors))] if new_errors else None,
        skip_reason=None if new_errors else f"{number} found, none of them a new error",
        cursor=json.dumps(known),
    )


def _evaluated(services: Services, alerts: Iterable[Alert]) -> Mapping[Alert, Evaluation]:
    return evaluate(services.lake, services.settings.thresholds, services.now(), alerts)


def _told(alert: Alert, evaluation: Evaluation) -> dg.AssetCheckEvaluation:
    lines = evaluation.lines
    others = (
        f" (and {len(evaluation.findings) - 1 + evaluation.more:,} more)" if len(lines) > 1 else ""
    )
    words = {
        "found": "\n".join(lines) if others else "",
        "not judged": evaluation.unjudged or "",
    }
    return dg.AssetCheckEvaluation(
        asset_key=_KEYS[alert].asset_key,
        check_name=_KEYS[alert].name,
        passed=evaluation.severity is None,
        severity=(
            dg.AssetCheckSeverity.ERROR
            if evaluation.severity == "error"
            else dg.AssetCheckSeverity.WARN
        ),
        description=f"{lines[0]}{others}" if lines else evaluation.unjudged,
        metadata={name: dg.MetadataValue.text(text) for name, text in words.items() if text},
    )


def _marks(evaluation: Evaluation) -> dict[str, str]:
    """What tells these findings from others, and how bad each is. No id can be read from it."""
    marks = {_mark(finding): str(finding.severity) for finding in evaluation.findings}
    return marks | ({_digest(evaluation.broken): "error"} if evaluation.broken else {})


def _mark(finding: Finding) -> str:
    return _digest(finding.severity, finding.subject, str(finding.since))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _read_cursor(cursor: str | None) -> dict[Alert, dict[str, str]]:
    known: dict[Alert, dict[str, str]] = json.loads(cursor) if cursor else {}
    return known
