"""raw_usage, usage_1m, usage_1h, usage_1d and what is known of them: a partition per UTC day.

They are one step on purpose (docs/design.md, "Dagster"). Selected without raw_usage, the buckets
are rolled up again from what has landed, without a request: for changed SQL, or days that the API
no longer serves. Hours and days alone can be rolled up by Spark, from the shared lake's minutes.
"""

import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Final

import dagster as dg
import duckdb

from pipeline.interrupts import only_the_first
from pipeline.lake import engine
from pipeline.lake.consistency import ConsistencyError
from pipeline.lake.files import ContractError
from pipeline.lake.manifest import days_to_reload
from pipeline.lake.schemas import LEDGER_DATASETS, USAGE_DATASETS
from pipeline.lake.shortage import shortage
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.messages import by_width, count
from pipeline.orchestration.assets.days import LOAD_USAGE, LoadConfig, days_asked, resume
from pipeline.orchestration.assets.finalize import (
    Materializations,
    build,
    finalize,
    report_disputed,
)
from pipeline.orchestration.assets.metadata import column_schema
from pipeline.orchestration.assets.on_spark import hydrated, rolled_up
from pipeline.orchestration.recording import recording
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import committing
from pipeline.settings import SettingsError
from pipeline.timeline import day_window, in_words
from pipeline.usage.changed_hours import Reads
from pipeline.usage.load import LoadError, Progress, load_days
from pipeline.usage.rollup import CASCADE, DayPublished, rebuild_day

GROUP: Final = "usage"
API_POOL: Final = "mka1_usage_api"
"""On every step that asks the API, however its run is launched: an instance limits how many of
them run at once under `concurrency: pools`."""

PUBLISHED: Final = USAGE_DATASETS | LEDGER_DATASETS
"""What a load of a day publishes."""

_RELOADED_AT_ONCE: Final = 7
"""Disputed days that a run loads again beside its own: each takes a request an hour."""
_SHOWN_EVERY: Final = 60.0
"""Seconds after which a long run lets readers of the catalog see what it has published so far."""
_DEPENDS_ON: Final = {dataset.name: [source] for dataset, source in CASCADE} | {
    "coverage": ["raw_usage"],
    "revisions": ["usage_1m"],
}


def usage_assets(
    partitions: dg.DailyPartitionsDefinition, policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The assets as one step over `partitions`; `policy` says how a backfill becomes runs."""

    @dg.multi_asset(
        name=LOAD_USAGE,
        specs=[
            dg.AssetSpec(
                dataset.name,
                deps=_DEPENDS_ON.get(dataset.name, []),
                description=f"{dataset.description} Grain: {dataset.grain}.",
                group_name=GROUP,
                kinds={"parquet", "duckdb"} if dataset.name in _DEPENDS_ON else {"parquet"},
                metadata={"dagster/column_schema": column_schema(dataset)},
            )
            for dataset in PUBLISHED.values()
        ],
        partitions_def=partitions,
        backfill_policy=policy,
        can_subset=True,
        pool=API_POOL,
    )
    def load_usage(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        services: dg.ResourceParam[Services],
    ) -> Iterator[dg.MaterializeResult[None]]:
        selected = {key.to_user_string() for key in context.selected_asset_keys}
        days = days_asked(context, services)
        shown = Materializations(context, services, selected)
        done: dict[date, DayPublished] = {}
        by_spark = config.engine == "spark"
        changed = rolled_up(services, selected, days) if by_spark else []

        def work(days: list[date]) -> None:
            again = bool(done)  # days that another worker has committed meanwhile
            if by_spark:
                done.update(hydrated(services.lake, days, changed))
                return
            if "raw_usage" not in selected:
                _rebuild(services, days, done)
                return
            _load(context, services, days, config.reads, done)
            if not again:
                _reload(context, services, shown, days)

        with recording(context, services), only_the_first() as interruption:
            try:
                heals = "raw_usage" in selected and config.reads == "full"
                with committing(services, days, heals=heals) as do:
                    try:
                        do(work)
                    finally:
                        interruption.hold()
                        finalize(services)
            except (
                BaseException
            ):  # an interrupt too: these days are published, so they are reported
                for published in done.values():
                    shown.at_once(published)
                raise
            for published in done.values():
                shown.with_results(published)
        for name in PUBLISHED:
            if name in selected:
                yield dg.MaterializeResult(asset_key=name)
        interruption.deliver()

    return load_usage


def _load(
    context: dg.AssetExecutionContext,
    services: Services,
    days: list[date],
    reads: Reads,
    done: dict[date, DayPublished],
) -> None:
    """Load `days`; each is in `done` as soon as it is published."""

    shown_at = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal shown_at
        if progress.published:
            done[progress.day] = progress.published
            if time.monotonic() - shown_at > _SHOWN_EVERY:
                build(services)
                shown_at = time.monotonic()
            rows = progress.published.rows
            context.log.info(
                f"{progress.day} is published: {count(progress.rows, 'row')} as served, "
                + by_width(rows, "usage")
            )
            report_disputed(services, progress.published)
        services.on_progress(progress)

    try:
        _load_days(services, days, reads, report)
    except LoadError as error:
        how = resume(services, error.missing, reads)
        raise dg.Failure(f"{error} {how}") from error
    except (UserIdModeError, SettingsError) as error:
        raise dg.Failure(str(error)) from error


def _load_days(
    services: Services, days: list[date], reads: Reads, on_progress: Callable[[Progress], None]
) -> None:
    load_days(
        services.connect,
        services.lake,
        days,
        reads=reads,
        pseudonyms=services.settings.pseudonyms,
        on_progress=on_progress,
        now=services.clock,
    )


def _reload(
    context: dg.AssetExecutionContext,
    services: Services,
    shown: Materializations,
    asked: list[date],
) -> None:
    """Load the days again that an earlier run has left disputed, or read with a clock ahead.

    A few at a time, those read longest ago first. They are not what the run was launched for: what
    fails keeps them as they are, for the next run.
    """
    lake, first_day = services.lake, services.settings.first_day
    days = [
        day
        for day in days_to_reload(lake, services.clock())
        if day >= first_day and day not in asked and day_window(day).end <= services.clock()
    ][:_RELOADED_AT_ONCE]
    if not days:
        return

    def report(progress: Progress) -> None:
        if progress.published:
            shown.at_once(progress.published)

    try:
        _load_days(services, days, "full", report)
    except LoadError as error:
        context.log.warning(str(error))
    still = set(days).intersection(days_to_reload(lake, services.clock()))
    services.on_note(
        f"loaded again, as disputed or read while a clock was ahead: {in_words(days)}; "
        f"to be loaded again: {in_words(still)}"
    )


def _rebuild(services: Services, days: list[date], done: dict[date, DayPublished]) -> None:
    """Roll `days` up again from what has landed; each is in `done` once it is published."""

    def rebuild(con: duckdb.DuckDBPyConnection, day: date) -> None:
        done[day] = rebuild_day(con, services.lake, day)

    try:
        engine.at_once(services.lake, rebuild, days)
    except (ConsistencyError, ContractError, OSError, duckdb.Error) as error:
        kept = f"Rolled up again and kept: {len(done)} of {count(len(days), 'day')}."
        raise dg.Failure(f"{shortage(error) or error}\n{kept}") from error
