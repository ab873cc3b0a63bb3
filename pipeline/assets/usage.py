"""raw_usage, usage_1m, usage_1h and usage_1d: one set of assets, a partition per UTC day.

Belongs here: what Dagster selects, is told and shows. Does not belong here: loading
(`pipeline.loading`), computing (`pipeline.lake.rollup`).

The four are one step on purpose. A day goes from its first page to its last published file before
it counts as loaded, so a run that stops in the middle keeps the days that it finished, at every
width; and the widths of a day never come from different loads. Selected without raw_usage, the
buckets are rolled up again from what has landed, without a request: for changed SQL, or days that
the API no longer serves.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import date
from typing import Final

import dagster as dg

from pipeline.assets.metadata import column_schema, day_metadata
from pipeline.lake import engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.rollup import CASCADE, DayPublished, rebuild_day
from pipeline.lake.schemas import DATASETS
from pipeline.loading import LoadError, Progress, load_days
from pipeline.partitions import days_of
from pipeline.resources import Workspace
from pipeline.timeline import closed_through, day_window

GROUP: Final = "usage"
API_TAG: Final = {"mka1_usage/api": "usage"}
"""On every run that asks the API: an instance can limit how many of them run at once."""

_DEPENDS_ON: Final = {dataset.name: [source] for dataset, source in CASCADE}


def usage_assets(partitions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The four assets as one step over `partitions`; a range of days is one run."""

    @dg.multi_asset(
        name="load_usage",
        specs=[
            dg.AssetSpec(
                dataset.name,
                deps=_DEPENDS_ON.get(dataset.name, []),
                description=f"{dataset.description} Grain: {dataset.grain}.",
                group_name=GROUP,
                kinds={"parquet", "duckdb"} if dataset.name in _DEPENDS_ON else {"parquet"},
                metadata={"dagster/column_schema": column_schema(dataset)},
            )
            for dataset in DATASETS.values()
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
    )
    def load_usage(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> Iterator[dg.MaterializeResult[None]]:
        selected = {key.to_user_string() for key in context.selected_asset_keys}
        days = days_of(context.run.tags)
        shown = _Shown(context, workspace, selected)
        try:
            if "raw_usage" in selected:
                _load(context, workspace, days, shown)
            else:
                _rebuild(workspace, days, shown)
        finally:
            build_catalog(workspace.lake, workspace.settings.catalog)
        for name in DATASETS:
            if name in selected:
                yield dg.MaterializeResult(asset_key=name)

    return load_usage


class _Shown:
    """Tells Dagster what became of a day, dataset by dataset, with the day's own metadata."""

    def __init__(
        self, context: dg.AssetExecutionContext, workspace: Workspace, selected: set[str]
    ) -> None:
        self._context = context
        self._lake = workspace.lake
        self._selected = selected

    def with_results(self, published: DayPublished) -> None:
        """Attach the day to the materializations that the step reports when it ends well."""
        for name, partition, metadata in self._metadata(published):
            self._context.add_asset_metadata(metadata, asset_key=name, partition_key=partition)

    def despite_failure(self, published: DayPublished) -> None:
        """Report the day at once: a step that fails reports none of its assets."""
        for name, partition, metadata in self._metadata(published):
            self._context.log_event(
                dg.AssetMaterialization(name, metadata=metadata, partition=partition)
            )

    def _metadata(
        self, published: DayPublished
    ) -> Iterator[tuple[str, str, dict[str, dg.MetadataValue]]]:
        with closing(engine.connect()) as con:
            per_dataset = day_metadata(con, self._lake, published)
        for name, metadata in per_dataset.items():
            if name in self._selected:
                yield name, published.day.isoformat(), metadata


def _load(
    context: dg.AssetExecutionContext, workspace: Workspace, days: list[date], shown: _Shown
) -> None:
    through = closed_through(workspace.now())
    begun = [day for day in days if day_window(day).start < through]
    for day in sorted(set(days) - set(begun)):
        context.log.warning(f"{day} has no closed minute yet: nothing to load")

    def tell(progress: Progress) -> None:
        workspace.on_progress(progress)
        if progress.published:
            rows = progress.published.rows
            context.log.info(
                f"{progress.day} is published: {rows['raw_usage']:,} rows as served, "
                f"{rows['usage_1m']:,} by minute, {rows['usage_1h']:,} by hour, "
                f"{rows['usage_1d']:,} by day"
            )

    try:
        published = load_days(
            workspace.connect, workspace.lake, begun, on_progress=tell, now=workspace.now
        )
    except LoadError as error:
        for done in error.published:
            shown.despite_failure(done)
        raise dg.Failure(str(error)) from error
    for done in published:
        shown.with_results(done)


def _rebuild(workspace: Workspace, days: list[date], shown: _Shown) -> None:
    with closing(engine.connect()) as con:
        for day in days:
            shown.with_results(rebuild_day(con, workspace.lake, day))
