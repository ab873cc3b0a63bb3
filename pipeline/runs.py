"""Run the Dagster jobs in this process, and tell what became of them.

Belongs here: launching a range as a single run, and what failed in words. Does not belong here:
arguments (`pipeline.cli`), progress (`pipeline.terminal`), or what a run does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import dagster as dg
from rich.console import Console

from pipeline import instance
from pipeline.assets.conversations import STEP
from pipeline.assets.refresh import JOB as REFRESH_JOB
from pipeline.definitions import build_defs
from pipeline.partitions import range_tags
from pipeline.refreshing import Refreshed
from pipeline.resources import Workspace
from pipeline.schedules import CONVERSATIONS_JOB, JOB
from pipeline.settings import Settings
from pipeline.terminal import showing, showing_listings, tell_odd_text, tell_synced


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `failures` are sentences; `warnings` are checks that did not stop it."""

    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    checks: int


def run_days(settings: Settings, first: date, last: date, console: Console) -> Outcome:
    """Load, publish and check the days from `first` through `last` as one Dagster run.

    KeyboardInterrupt where it is interrupted; days that are finished by then are kept.
    """
    with showing(console, first, last) as listener:
        workspace = Workspace(
            load=lambda: settings, on_progress=listener, on_odd_text=tell_odd_text
        )
        return _run(JOB, workspace, range_tags(first, last))


def run_conversations(
    settings: Settings, first: date, last: date, console: Console, *, full: bool = False
) -> Outcome:
    """Read, observe and reconcile the conversations of those days as one Dagster run.

    KeyboardInterrupt where it is interrupted: what was read by then is landed, and read again by
    the next run, which observes it.
    """
    with showing_listings(console) as listener:
        workspace = Workspace(
            load=lambda: settings,
            on_sync=listener,
            on_synced=tell_synced,
            on_odd_text=tell_odd_text,
        )
        asked = {"ops": {STEP: {"config": {"full": full}}}}
        return _run(CONVERSATIONS_JOB, workspace, range_tags(first, last), asked)


def run_refresh(
    settings: Settings, console: Console, on_found: Callable[[Refreshed], None]
) -> Outcome:
    """Load again what the API has restated, as one Dagster run; `on_found` is told of which days.

    KeyboardInterrupt where it is interrupted; days that are finished by then are kept.
    """
    with showing(console) as listener:
        workspace = Workspace(
            load=lambda: settings,
            on_progress=listener,
            on_refreshed=on_found,
            on_odd_text=tell_odd_text,
        )
        return _run(REFRESH_JOB, workspace, {})


def _run(
    name: str,
    workspace: Workspace,
    tags: Mapping[str, str],
    config: Mapping[str, object] | None = None,
) -> Outcome:
    instance.prepare(workspace.settings.dagster_home)
    with dg.DagsterInstance.get() as dagster:
        job = build_defs(workspace).resolve_job_def(name)
        result = job.execute_in_process(
            instance=dagster,
            tags=dict(tags),
            raise_on_error=False,
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                **(config or {}),
            },
        )
    if _interrupted(result):
        raise KeyboardInterrupt
    evaluations = result.get_asset_check_evaluations()
    failed = [one for one in evaluations if not one.passed]
    failures = tuple(_failures(result))
    if not result.success and not failures:  # it never came to a step
        failures = (f"the run failed; `dagster dev` shows run {result.run_id}",)
    return Outcome(
        failures=failures,
        warnings=tuple(_words(one) for one in failed if one.severity == dg.AssetCheckSeverity.WARN),
        checks=len(evaluations),
    )


def _interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a step was ended by Ctrl-C, which Dagster records as a failure like any other."""
    return any(
        event.step_failure_data.error is not None
        and event.step_failure_data.error.cls_name == dg.DagsterExecutionInterruptedError.__name__
        for event in result.all_events
        if event.event_type_value == "STEP_FAILURE"
    )


def _failures(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for one in result.get_asset_check_evaluations():
        if not one.passed and one.severity == dg.AssetCheckSeverity.ERROR:
            yield _words(one)
    blocked = "DagsterAssetCheckFailedError"  # said above, check by check
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                yield data.user_failure_data.description
            elif data.error and data.error.cls_name != blocked:
                error = data.error.cause or data.error
                yield error.message.strip()


def _words(check: dg.AssetCheckEvaluation) -> str:
    found = check.metadata.get("found")
    reason = check.description or (str(found.value) if found else "")
    return f"{check.check_name} of {check.asset_key.to_user_string()}: {reason}"
