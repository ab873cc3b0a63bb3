"""raw_meters to meters_1d, and costs_1d: the other usage endpoints, where they are asked for.

They are assets where MKA1_USAGE_ENDPOINTS names them: those of others would never be materialized.
Each endpoint is loaded by itself, in one step: the tables of a day have the rows of all of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from typing import Final

import dagster as dg

from pipeline.interrupts import only_the_first
from pipeline.lake import engine
from pipeline.lake.manifest import BILLS, manifest_of, readings_to_reload
from pipeline.lake.schemas import COST_DATASETS, COSTS, DATASETS, METER_DATASETS, METERS, Dataset
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.messages import count
from pipeline.orchestration.assets.days import LOAD_METERS, LoadConfig, days_asked, resume
from pipeline.orchestration.assets.finalize import finalize, report_disputed
from pipeline.orchestration.assets.metadata import column_schema, cost_table, meter_table
from pipeline.orchestration.assets.usage import API_POOL
from pipeline.orchestration.recording import recording
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import committing
from pipeline.settings import SettingsError
from pipeline.timeline import day_window
from pipeline.usage.bills import load_bills
from pipeline.usage.changed_hours import Reads
from pipeline.usage.load import LoadError, Progress, load_days
from pipeline.usage.meters import Metered
from pipeline.usage.rollup import DayPublished

GROUP: Final = "meters"

_RELOADED_AT_ONCE: Final = 7
"""Disputed days of an endpoint that a run loads again beside its own."""
_DEPENDS_ON: Final[Mapping[str, list[str]]] = {
    "raw_meters": [],
    "meters_1m": ["raw_meters"],
    "meters_1h": ["meters_1m"],
    "meters_1d": ["meters_1h"],
    "meter_revisions": ["meters_1m"],
}


def meter_assets(
    partitions: dg.DailyPartitionsDefinition, policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The tables of meters as one step over `partitions`; `policy` is of a backfill's runs."""

    @dg.multi_asset(
        name=LOAD_METERS,
        specs=[_spec(dataset, _DEPENDS_ON[name]) for name, dataset in METER_DATASETS.items()],
        partitions_def=partitions,
        backfill_policy=policy,
        pool=API_POOL,
    )
    def load_meters(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        services: dg.ResourceParam[Services],
    ) -> Iterator[dg.MaterializeResult[None]]:
        days = days_asked(context, services)

        def load(days: list[date], first: bool) -> None:
            _load(context, services, days, config.reads, reload=first)

        heals = config.reads == "full"
        yield from _loaded(context, services, days, METER_DATASETS, load, config.reads, heals=heals)

    return load_meters


def cost_assets(
    partitions: dg.DailyPartitionsDefinition, policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """costs_1d as a step of its own."""

    @dg.multi_asset(
        name="load_costs",
        specs=[_spec(COSTS, [])],
        partitions_def=partitions,
        backfill_policy=policy,
        pool=API_POOL,
    )
    def load_costs(
        context: dg.AssetExecutionContext, services: dg.ResourceParam[Services]
    ) -> Iterator[dg.MaterializeResult[None]]:
        days = days_asked(context, services)

        def bills_of(days: list[date]) -> list[DayPublished]:
            published = load_bills(
                services.connect,
                services.lake,
                days,
                pseudonyms=services.settings.pseudonyms,
                now=services.clock,
            )
            for one in published:
                report_disputed(services, one)
            return published

        def load(days: list[date], first: bool) -> None:
            bills_of(days)
            again = _to_reload(services, BILLS, days) if first else []
            published: Iterable[DayPublished]
            try:
                published = bills_of(again)
            except LoadError as error:  # what fails waits for the next run
                published = error.published
                context.log.warning(str(error))
            report_at_once(context, services.lake, published, COST_DATASETS)

        yield from _loaded(context, services, days, COST_DATASETS, load)

    return load_costs


def _spec(dataset: Dataset, depends_on: list[str]) -> dg.AssetSpec:
    return dg.AssetSpec(
        dataset.name,
        deps=depends_on,
        description=f"{dataset.description} Grain: {dataset.grain}.",
        group_name=GROUP,
        kinds={"parquet", "duckdb"} if depends_on else {"parquet"},
        metadata={"dagster/column_schema": column_schema(dataset)},
    )


def _loaded(
    context: dg.AssetExecutionContext,
    services: Services,
    days: list[date],
    tables: Mapping[str, Dataset],
    load: Callable[[list[date], bool], None],
    reads: Reads = "full",
    *,
    heals: bool = False,
) -> Iterator[dg.MaterializeResult[None]]:
    """Load, clear up, and report every table of every day; `heals` as of `committing`.

    `load` gets days, and whether it is asked for the first time: it is not where others have
    committed days meanwhile.
    """
    with (
        recording(context, services),
        only_the_first() as interruption,
        committing(services, days, heals=heals) as do,
    ):
        first = True

        def work(days: list[date]) -> None:
            nonlocal first
            try:
                load(days, first)
            finally:
                first = False

        try:
            do(work)
        except LoadError as error:
            interruption.hold()
            # What was read is published, so it is reported: a step that fails reports nothing.
            report_at_once(context, services.lake, error.published, tables)
            how = resume(services, error.missing, reads)
            raise dg.Failure(f"{error} {how}") from error
        except (UserIdModeError, SettingsError) as error:
            raise dg.Failure(str(error)) from error
        finally:
            interruption.hold()
            finalize(services)
    for name, day, metadata in _shown(services.lake, days, tables):
        context.add_asset_metadata(metadata, asset_key=name, partition_key=day.isoformat())
    for name in tables:
        yield dg.MaterializeResult(asset_key=name)
    interruption.deliver()


def _load(
    context: dg.AssetExecutionContext,
    services: Services,
    days: list[date],
    reads: Reads,
    *,
    reload: bool,
) -> None:
    """Load every endpoint that is asked for, and with `reload` what of it is disputed beside.

    Where one fails, the others are loaded all the same; then LoadError says which days of it lack.
    """
    published: list[DayPublished] = []
    again: list[DayPublished] = []
    failed: list[LoadError] = []

    def report(progress: Progress) -> None:
        if progress.published:
            published.append(progress.published)
            report_disputed(services, progress.published)
        services.on_progress(progress)

    for feed in services.feeds:
        try:
            load_days(
                services.connect,
                services.lake,
                days,
                feed=feed,
                reads=reads,
                pseudonyms=services.settings.pseudonyms,
                on_progress=report,
                now=services.clock,
            )
        except LoadError as error:
            failed.append(error)
            continue
        context.log.info(f"{feed.endpoint}: {count(len(days), 'day')} loaded")
        if reload:
            again += _reload(context, services, feed, days)
    # A day once, whatever endpoints of it were loaded again.
    report_at_once(context, services.lake, {one.day: one for one in again}.values(), METER_DATASETS)
    if failed:
        by_day = {one.day: one for one in published}
        missing = sorted({day for error in failed for day in error.missing})
        why = "\n".join(str(error) for error in failed)
        raise LoadError([*by_day.values()], missing, why) from failed[0]


def _reload(
    context: dg.AssetExecutionContext, services: Services, feed: Metered, asked: list[date]
) -> Sequence[DayPublished]:
    """Load the days again that an earlier run has left disputed: what fails waits for the next."""
    days = _to_reload(services, feed.endpoint, asked)
    try:
        return load_days(
            services.connect,
            services.lake,
            days,
            feed=feed,
            pseudonyms=services.settings.pseudonyms,
            now=services.clock,
        )
    except LoadError as error:
        context.log.warning(str(error))
        return error.published


def _to_reload(services: Services, endpoint: str, asked: list[date]) -> list[date]:
    """The days that an earlier run has left disputed, those read longest ago, a few at a time."""
    now, first_day = services.clock(), services.settings.first_day
    return [
        day
        for day in readings_to_reload(services.lake, endpoint, now)
        if day >= first_day and day not in asked and day_window(day).end <= now
    ][:_RELOADED_AT_ONCE]


def report_at_once(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    lake: Lake,
    published: Iterable[DayPublished],
    tables: Mapping[str, Dataset],
) -> None:
    """Let Dagster know what became of days that are no result of a step of their assets."""
    for name, day, metadata in _shown(lake, [one.day for one in published], tables):
        context.log_event(
            dg.AssetMaterialization(name, metadata=metadata, partition=day.isoformat())
        )


def _shown(
    lake: Lake, days: list[date], tables: Mapping[str, Dataset]
) -> Iterator[tuple[str, date, dict[str, dg.MetadataValue]]]:
    """Per table and day, what the materialization shows."""
    of_bills = COSTS.name in tables
    for day in days:
        record = manifest_of(lake.version(day))
        path = lake.file(COSTS.name if of_bills else METERS["1d"].name, day)
        with closing(engine.connect(lake)) as con:
            said = cost_table(con, path) if of_bills else meter_table(con, path)
        for name in tables:
            entry = record.files.get(name)
            yield (
                name,
                day,
                {
                    "dagster/row_count": dg.MetadataValue.int(entry.rows if entry else 0),
                    "dagster/column_schema": dg.MetadataValue.table_schema(
                        column_schema(DATASETS[name])
                    ),
                    "totals": said,
                    "file": dg.MetadataValue.path(lake.path(name, day)),
                },
            )
