"""Is Dagster set up so that runs take turns, schedules run, and somebody runs them?

An instance is opened only where there has been one: opening one makes its database.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import dagster as dg
import yaml

from pipeline.doctor.finding import CheckContext, Finding, State, failed, ok, skipped, warning
from pipeline.orchestration.assets.usage import API_POOL
from pipeline.orchestration.instance import (
    STORAGE_ERRORS,
    first_failure_ends_it,
    misread,
    storage_failure,
)
from pipeline.orchestration.instance import opened as open_instance
from pipeline.orchestration.schedules import LOADING
from pipeline.timeline import iso

_HEARTBEAT: Final = 300.0
"""Seconds. A daemon that is well says so about twice a minute."""
_STORAGES: Final = {"storage", "run_storage", "event_log_storage", "schedule_storage"}


def instance(context: CheckContext) -> Iterator[Finding]:
    """Whether there is an instance that opens; then what it says of its pool and schedules."""
    home = context.settings.dagster_home
    config = home / "dagster.yaml"
    if not config.is_file():
        yield skipped(f"{config} is not there: `mka1-usage dagster-home` writes one")
        return
    try:
        said = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        where = " ".join(str(error).split())
        yield failed(f"{config} is no YAML ({where})", "correct that line")
        return
    if not isinstance(said, dict):
        yield failed(f"{config} is no mapping of names", "correct it")
        return
    if not _STORAGES & set(said) and not (home / "history").is_dir():
        yield ok(f"{config}: no run was started yet")
        return
    try:
        with first_failure_ends_it(), open_instance(home) as opened:
            yield ok(f"{config} opens ({type(opened.run_storage).__name__})")
            yield _pool(opened, context.settings.workers)
            yield from _schedules(opened, context.now())
        if sign := misread(home):
            yield warning(
                f"{home} holds {sign!r}: runs from the command line use it, Dagster's own programs "
                "misread it",
                "set DAGSTER_HOME to another folder before `dagster dev` or a daemon is started",
            )
    except dg.DagsterInvalidConfigError as error:
        words = " ".join(error.errors[0].message.split())
        words = words.rpartition("PostProcessingError: ")[2].partition(" Expected: ")[0]
        yield failed(f"{config}: {words}", "correct what it names")
    except STORAGE_ERRORS as error:
        yield failed(*storage_failure(error, home))
    except ModuleNotFoundError as error:
        yield failed(
            f"{config} needs {error.name}, which is not installed",
            "install it, for Postgres from .ci/constraints-postgres.txt",
        )
    except ConnectionError as error:
        yield failed(
            f"{config} names a database that can't be used: {error}",
            "start it, or correct its address and password",
        )


def _pool(opened: dg.DagsterInstance, workers: int) -> Finding:
    """Whether as many runs read the API at a time as share its quota."""
    config = opened.get_concurrency_config().pool_config
    limits = {one.name: one.limit for one in opened.event_log_storage.get_pool_limits()}
    limit = limits.get(API_POOL, config.default_pool_limit)
    by_run = config.pool_granularity is not None and config.pool_granularity.value == "run"
    how_many = "without a limit" if limit is None else f"{limit} at a time"
    if limit == workers and by_run:
        turns = "take turns" if workers == 1 else f"go on {how_many}, as MKA1_USAGE_WORKERS says"
        return ok(f"runs that read the API ({API_POOL}) {turns}", subject="pool")
    if limit == workers:
        return warning(
            f"{API_POOL} is limited by step: a process that is killed may keep its turn",
            "in dagster.yaml, set concurrency: pools: granularity: run",
            subject="pool",
        )
    return warning(
        f"runs that read the API ({API_POOL}) share its quota, {how_many}, and MKA1_USAGE_WORKERS "
        f"is {workers}",
        f"in dagster.yaml, set concurrency: pools: {{granularity: run, default_limit: {workers}}}"
        + (f"; or MKA1_USAGE_WORKERS to {limit}" if limit else ""),
        subject="pool",
    )


def _schedules(opened: dg.DagsterInstance, now: float) -> Iterator[Finding]:
    """Which schedules are on, and whether the daemon that they need is alive."""
    known = [one.name for one in LOADING]
    states = [one for one in opened.all_instigator_state() if one.is_running]
    on = [name for name in known if any(state.name == name for state in states)]
    heartbeats = [
        status.last_heartbeat.timestamp
        for status in opened.get_daemon_statuses().values()
        if status.last_heartbeat is not None
    ]
    if not on:
        yield warning(
            "all are off: nothing is loaded by itself",
            f"switch {known[0]} on in Dagster's page, or let cron start `mka1-usage run`",
            subject="schedules",
        )
    else:
        yield ok(f"on: {', '.join(on)}; {len(known) - len(on)} off", subject="schedules")
    start = "start it: dagster-daemon run, with this DAGSTER_HOME"
    if not heartbeats:
        state: State = "failed" if on else "skipped"
        yield Finding(state, "daemon", "none has ever run here", start if on else "")
    elif now - max(heartbeats) > _HEARTBEAT:
        since = iso(int(max(heartbeats)))
        words = f"it was last alive at {since}"
        yield Finding("failed" if on else "skipped", "daemon", words, start if on else "")
    else:
        ago = max(now - max(heartbeats), 0)
        yield ok(f"alive {ago:.0f} s ago", subject="daemon")
    for one in states:
        ticks = opened.get_ticks(one.instigator_origin_id, one.selector_id, limit=1)
        if one.name in known and ticks and ticks[0].is_failure:
            yield warning(
                f"{one.name} failed to start a run at {iso(int(ticks[0].timestamp))}",
                "Dagster's page has the error, under the schedule's ticks",
                subject="schedules",
            )
