"""Run the Dagster jobs in this process, and say how they ended."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from uuid import uuid4

import dagster as dg
from rich.console import Console

from pipeline.definitions import build_defs
from pipeline.lake.shortage import shortage_in
from pipeline.orchestration import instance
from pipeline.orchestration.assets.conversations import STEP
from pipeline.orchestration.assets.days import loading
from pipeline.orchestration.assets.refresh import JOB as REFRESH_JOB
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.progress import report_synced, showing, showing_listings
from pipeline.orchestration.resources import Services
from pipeline.orchestration.schedules import CONVERSATIONS_JOB, JOB
from pipeline.settings import Settings
from pipeline.terminal import say
from pipeline.usage.changed_hours import Reads
from pipeline.usage.refresh import Refreshed


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `failures` are sentences; `warnings` are checks that did not stop it."""

    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    checks: int


def run_days(
    settings: Settings,
    first: date,
    last: date,
    console: Console,
    flags: tuple[str, ...] = (),
    reads: Reads = "full",
) -> Outcome:
    """Load, publish and check the days from `first` through `last` as one Dagster run.

    `reads` says how much of days that are loaded is read again. `flags` are those to give again
    when it is resumed. KeyboardInterrupt where it is interrupted; days that are finished by then
    are kept.
    """
    with showing(console, first, last) as listener:
        services = Services(lambda: settings, on_progress=listener, on_note=say, flags=flags)
        return _run(JOB, services, range_tags(first, last), loading(reads, services))


def run_conversations(
    settings: Settings, first: date, last: date, console: Console, *, full: bool = False
) -> Outcome:
    """Read, observe and reconcile the conversations of those days as one Dagster run.

    KeyboardInterrupt where it is interrupted: what was read by then is landed, and read again by
    the next run, which observes it.
    """
    with showing_listings(console) as listener:
        services = Services(
            lambda: settings,
            on_sync=listener,
            on_synced=report_synced,
            on_note=say,
            flags=("--full",) if full else (),
        )
        asked = {"ops": {STEP: {"config": {"full": full}}}}
        return _run(CONVERSATIONS_JOB, services, range_tags(first, last), asked)


def run_refresh(
    settings: Settings, console: Console, on_found: Callable[[Refreshed], None]
) -> Outcome:
    """Load again what the API has restated, as one Dagster run; `on_found` gets which days.

    KeyboardInterrupt where it is interrupted; days that are finished by then are kept.
    """
    with showing(console) as listener:
        services = Services(
            lambda: settings, on_progress=listener, on_refreshed=on_found, on_note=say
        )
        return _run(REFRESH_JOB, services, {})


def _run(
    name: str,
    services: Services,
    tags: Mapping[str, str],
    config: Mapping[str, object] | None = None,
) -> Outcome:
    home, dagster_home = services.settings.home, services.settings.dagster_home
    instance.prepare(dagster_home, services.settings.workers)
    instance.require_writable(home, "MKA1_USAGE_HOME")
    try:
        with instance.opened(dagster_home) as dagster, instance.quietly():
            result = _executed(dagster, build_defs(services).resolve_job_def(name), tags, config)
    except instance.STORAGE_ERRORS as error:
        return Outcome((": ".join(instance.storage_failure(error, dagster_home)),), (), 0)
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


def _executed(
    dagster: dg.DagsterInstance,
    job: dg.JobDefinition,
    tags: Mapping[str, str],
    config: Mapping[str, object] | None,
) -> dg.ExecuteInProcessResult:
    """Run the job here; however that ends, the run is not left as one that goes on."""
    run_id = str(uuid4())
    try:
        return job.execute_in_process(
            instance=dagster,
            tags=dict(tags),
            raise_on_error=False,
            run_id=run_id,
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                **(config or {}),
            },
        )
    except instance.STORAGE_ERRORS:  # there is nowhere to write how the run has ended
        raise
    except BaseException:  # an interrupt before Dagster handles them, or a fault of Dagster's
        run = dagster.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            dagster.report_run_failed(run, "The process that this run was in has given it up.")
        raise


def _interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether it was ended by a signal, which Dagster records as a failure like any other."""
    errors = [
        event.step_failure_data.error if event.is_step_failure else event.job_failure_data.error
        for event in result.all_events
        if event.is_step_failure or event.event_type_value == "PIPELINE_FAILURE"
    ]
    interrupted = dg.DagsterExecutionInterruptedError.__name__
    return any(error is not None and error.cls_name == interrupted for error in errors)


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
                full = ": make room on that disk, then run the same again"
                # Of an error of another process only its words are left.
                words = error.message.partition(f"{error.cls_name}: ")[2]
                if short := shortage_in(words):
                    yield short
                    continue
                reason = " ".join(error.message.split())
                yield reason + (full if os.strerror(errno.ENOSPC) in reason else "")


def _words(check: dg.AssetCheckEvaluation) -> str:
    found = check.metadata.get("found")
    reason = check.description or (str(found.value) if found else "")
    return f"{check.check_name} of {check.asset_key.to_user_string()}: {reason}"
