"""Conversations, and what is computed from them: one set of assets, partitioned by UTC day.

They are one step on purpose: what a listing holds is not cut by days, and the days that are
observed and reconciled are those for which everybody with usage has been visited.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from typing import Final

import dagster as dg

from pipeline import messages
from pipeline.api import ApiError
from pipeline.conversations.sync import Synced, SyncError, sync_days
from pipeline.interrupts import only_the_first
from pipeline.lake import engine
from pipeline.lake.files import ContractError
from pipeline.lake.schemas import DATASETS, TOKENS
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.orchestration import progress
from pipeline.orchestration.assets.days import days_asked
from pipeline.orchestration.assets.finalize import finalize
from pipeline.orchestration.assets.metadata import column_schema, token_metadata
from pipeline.orchestration.assets.usage import API_POOL
from pipeline.orchestration.recording import recording
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import committing
from pipeline.query.reconciliation import summary
from pipeline.settings import SettingsError

GROUP: Final = "conversations"
STEP: Final = "sync_conversations"

_DEPENDS_ON: Final[Mapping[str, list[str]]] = {
    "conversations": ["usage_1m"],
    "responses": ["usage_1m"],
    "items": ["conversations", "responses"],
    "item_contents": ["items"],
    "observed_1m": ["conversations", "items"],
    "observed_1h": ["observed_1m"],
    "observed_1d": ["observed_1h"],
    "tokens_1m": ["responses"],
    "tokens_1h": ["tokens_1m"],
    "tokens_1d": ["tokens_1h"],
    "reconciliation": ["observed_1d", "usage_1d"],
}


_TOKENS: Final = {dataset.name for dataset in TOKENS.values()}


class SyncConfig(dg.Config):
    """What a run may ask for beside its days."""

    full: bool = False
    """Read every listing from the beginning, for what an incremental sync cannot see."""


def conversation_assets(partitions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The assets as one step over `partitions`; a range of days is always one run.

    Runs side by side would read the same listings, each from its beginning.
    """

    @dg.multi_asset(
        name=STEP,
        specs=[
            dg.AssetSpec(
                name,
                deps=_DEPENDS_ON[name],
                description=f"{dataset.description} Grain: {dataset.grain}.",
                group_name=GROUP,
                kinds={"parquet"}
                if name in {"conversations", "responses"}
                else {"parquet", "duckdb"},
                metadata={"dagster/column_schema": column_schema(dataset)},
            )
            for name, dataset in DATASETS.items()
            if name in _DEPENDS_ON
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=API_POOL,
    )
    def sync_conversations(
        context: dg.AssetExecutionContext,
        config: SyncConfig,
        services: dg.ResourceParam[Services],
    ) -> Iterator[dg.MaterializeResult[None]]:
        days = days_asked(context, services)
        read: list[Synced] = []

        def work(_: list[date]) -> None:
            read.append(_sync(services, days, config.full))

        # What a listing holds may be of any day.
        with (
            recording(context, services),
            only_the_first() as interruption,
            committing(services, None) as do,
        ):
            try:
                do(work)
                synced = read[-1]
                services.on_synced(synced)
                context.log.info(progress.summary(synced))
            except SyncError as error:
                interruption.hold()
                services.on_synced(error.synced)
                # What was read is published, so it is reported: a step that fails reports nothing.
                for name, day, metadata in _shown(services.lake, error.synced):
                    context.log_event(
                        dg.AssetMaterialization(name, metadata=metadata, partition=day.isoformat())
                    )
                resume = messages.resume(error.synced.days, *services.flags)
                raise dg.Failure(f"{error} {resume}") from error
            finally:
                interruption.hold()
                finalize(services)
        for sentence in (*synced.warnings, *synced.gaps):
            context.log.warning(sentence)
        for name, day, metadata in _shown(services.lake, synced):
            context.add_asset_metadata(metadata, asset_key=name, partition_key=day.isoformat())
        for name in _DEPENDS_ON:
            yield dg.MaterializeResult(asset_key=name)
        interruption.deliver()

    return sync_conversations


def _sync(services: Services, days: list[date], full: bool) -> Synced:
    settings = services.settings
    try:
        return sync_days(
            services.connect_each(),
            services.lake,
            days,
            full=full,
            keep_content=settings.store_content,
            resolver=services.resolver,
            on_progress=services.on_sync,
            now=services.clock,
        )
    except (SettingsError, UserIdModeError, ApiError, ContractError, OSError) as error:
        raise dg.Failure(str(error)) from error


def _shown(lake: Lake, synced: Synced) -> Iterator[tuple[str, date, dict[str, dg.MetadataValue]]]:
    """Per dataset and day, what the materialization shows."""
    shared: dict[str, dg.MetadataValue] = {
        "listings_read": dg.MetadataValue.int(synced.listings),
        "listings_unchanged": dg.MetadataValue.int(synced.unchanged),
        "requests": dg.MetadataValue.int(synced.requests),
        "gaps": dg.MetadataValue.text("\n".join(synced.gaps) or "none"),
    }
    snapshot = Snapshot(lake, synced.days)
    with closing(engine.connect(lake)) as con:
        for day in synced.days:
            classes = summary(con, snapshot, [day]).to_pylist()
            hours = snapshot.file(TOKENS["1h"].name, day)
            gone = snapshot.is_dropped(TOKENS["1h"].name, day)
            tokens = {} if gone else token_metadata(con, hours, day)
            for name in _DEPENDS_ON:
                loaded = snapshot.loaded(name, day)
                of_name = {"classes": _classes(classes)} if name == "reconciliation" else {}
                of_name |= tokens if name in _TOKENS else {}
                if not snapshot.is_dropped(name, day):
                    rows = dg.MetadataValue.int(loaded.rows if loaded else 0)
                    of_name["dagster/row_count"] = rows
                metadata = {
                    "dagster/column_schema": dg.MetadataValue.table_schema(
                        column_schema(DATASETS[name])
                    ),
                    **of_name,
                    **shared,
                    "file": dg.MetadataValue.path(lake.path(name, day)),
                }
                yield name, day, metadata


def _classes(rows: list[dict[str, object]]) -> dg.MetadataValue:
    """The day's reconciliation by measure and class, as a table in Markdown."""
    names = ("measure", "class", "comparisons", "reported", "observed", "difference")
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [
        " | ".join("-" if row[name] is None else str(row[name]) for name in names) for row in rows
    ]
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))
