"""The alerts as Dagster reports them: checks, a sensor that evaluates them, a job that fails.

Belongs here: which asset an alert is shown at, when it is reported again. The checks block nothing,
and no load evaluates them: a load may be about any day, and alerts are about now. Why a sensor and
a job as well: docs/design.md, "Alerts".
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import dagster as dg

from pipeline.alerts.alert import Alert, Evaluation
from pipeline.alerts.evaluate import ALERTS, evaluate
from pipeline.notify.channels import channels_of
from pipeline.notify.outbox import Outbox, OutboxError
from pipeline.notify.sending import send_alerts
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import pulled

_CHECKS: Final[Mapping[Alert, dg.AssetCheckSpec]] = {
    "late": dg.AssetCheckSpec(
        "data_on_time",
        asset="coverage",
        description="The lake is not behind, and no day is left out.",
    ),
    "spike": dg.AssetCheckSpec(
        "usage_as_usual",
        asset="usage_1h",
        description="No user or key is far above what it usually peaks at.",
    ),
    "zero": dg.AssetCheckSpec(
        "no_measure_at_zero", asset="usage_1h", description="No measure fell to zero."
    ),
    "tokens": dg.AssetCheckSpec(
        "tokens_as_usual",
        asset="tokens_1h",
        description="No user or key takes far more tokens than it usually peaks at.",
    ),
    "cost": dg.AssetCheckSpec(
        "costs_as_usual",
        asset="tokens_1h",
        description="No user or key costs far more than it usually peaks at.",
    ),
    "failures": dg.AssetCheckSpec(
        "failures_as_usual",
        asset="tokens_1h",
        description="No model fails far more often than it usually does.",
    ),
    "budget": dg.AssetCheckSpec(
        "budgets_kept", asset="usage_1d", description="No budget is used, or nearly."
    ),
}
ALERT_CHECKS: Final = tuple(spec.key for spec in _CHECKS.values())

_JOB: Final = "alerts_job"
_EVERY: Final = 600
"""Seconds between two looks."""
_WAIT: Final = 5.0
"""Seconds that another process which sends is waited for."""
_SENDING: Final = 15.0
"""Seconds after which no message is begun: Dagster gives a tick a minute, and what waits is sent by
the next one."""


@dg.multi_asset_check(name="check_alerts", specs=list(_CHECKS.values()), can_subset=True)
def check_alerts(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> Iterator[dg.AssetCheckResult]:
    """The checks as they are started by hand."""
    asked = [alert for alert in ALERTS if _CHECKS[alert].key in context.selected_asset_check_keys]
    for alert, evaluation in _evaluated(services, asked).items():
        yield dg.AssetCheckResult(**_reported(alert, evaluation))


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
        "Late data, users and keys far above their baseline, measures at zero, models that fail, "
        "budgets: reports the checks when their findings change, and launches alerts_job, which "
        "fails, for new errors. Sends messages where channels for them are set."
    ),
)
def watch_alerts(
    context: dg.SensorEvaluationContext, services: dg.ResourceParam[Services]
) -> dg.SensorResult:
    """Report what is new since the last tick; the cursor is what was reported."""
    before: dict[Alert, dict[str, str]] = json.loads(context.cursor or "{}")
    found, problems = _sent(services)
    for problem in problems:
        context.log.warning(problem)
    known = {alert: _marks(it) | _unseen(it, before.get(alert)) for alert, it in found.items()}
    events = [
        dg.AssetCheckEvaluation(**_reported(alert, evaluation))
        for alert, evaluation in found.items()
        if before.get(alert) != known[alert]
    ]
    new_errors = sorted(
        mark
        for alert, evaluation in found.items()
        for mark, told in known[alert].items()
        if told.startswith("error") and mark not in before.get(alert, {})
    )
    number = sum(_number(evaluation) for evaluation in found.values())
    # Of this moment: Dagster launches nothing for a key that it has seen, and errors come back.
    key = _digest(str(services.now()), *new_errors)
    return dg.SensorResult(
        asset_events=events,
        run_requests=[dg.RunRequest(run_key=key)] if new_errors else None,
        skip_reason=None
        if new_errors
        else "; ".join([f"{number} found, none of them a new error", *problems]),
        cursor=json.dumps(known),
    )


def _sent(services: Services) -> tuple[Mapping[Alert, Evaluation], Sequence[str]]:
    """What is found, once the channels that are set have had what is new; and what went wrong."""
    settings = services.settings
    channels = channels_of(settings)
    if not channels:
        return _evaluated(services, ALERTS), ()
    try:
        found, sent = send_alerts(
            Outbox(settings.home),
            channels,
            lambda: _evaluated(services, ALERTS),
            services.now,
            wait=_WAIT,
            until=time.monotonic() + _SENDING,
        )
    except (OutboxError, OSError) as error:
        return _evaluated(services, ALERTS), [str(error)]
    return found, [*sent.notes, *sent.failures]


def _evaluated(services: Services, alerts: Iterable[Alert]) -> Mapping[Alert, Evaluation]:
    settings = services.settings
    pulled(services)
    return evaluate(services.lake, settings.thresholds, services.now(), alerts, settings)


def _reported(alert: Alert, evaluation: Evaluation) -> dict[str, Any]:
    """What a check's result and its evaluation without a run both say."""
    lines = evaluation.lines
    others = f" (and {_number(evaluation) - 1:,} more)" if len(lines) > 1 else ""
    words = {
        "found": "\n".join(lines) if others else "",
        "not judged": evaluation.unjudged or "",
    }
    severity = dg.AssetCheckSeverity
    return {
        "asset_key": _CHECKS[alert].asset_key,
        "check_name": _CHECKS[alert].name,
        "passed": evaluation.severity is None,
        "severity": severity.ERROR if evaluation.severity == "error" else severity.WARN,
        "description": f"{lines[0]}{others}" if lines else evaluation.unjudged,
        "metadata": {name: dg.MetadataValue.text(text) for name, text in words.items() if text},
    }


def _number(evaluation: Evaluation) -> int:
    """How many are found, of which what keeps from looking is one."""
    return len(evaluation.findings) + evaluation.more + (evaluation.broken is not None)


def _marks(evaluation: Evaluation) -> dict[str, str]:
    """What identifies these findings, with how bad each is, since when. No id can be read from it.

    What lasts is no new error, whatever it is since now: data that comes in and is late all the
    same, or days that are left of several. A budget is new in each period.
    """
    marks: dict[str, str] = {}
    for found in evaluation.findings:
        period = str(found.since) if found.alert == "budget" else ""
        for part in found.parts or (period,):
            mark = _digest(found.severity, found.topic, part)
            marks[mark] = f"{found.severity} {found.since}"
    words = {"error": evaluation.broken, "not judged": evaluation.unjudged}
    return marks | {_digest(text): kind for kind, text in words.items() if text}


def _unseen(evaluation: Evaluation, before: dict[str, str] | None) -> dict[str, str]:
    """What was found before and could not be looked for now: it is no new error afterwards."""
    return before or {} if evaluation.broken and not evaluation.findings else {}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
