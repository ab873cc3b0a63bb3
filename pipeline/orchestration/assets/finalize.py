"""What Dagster learns of days that were published, and what ends every step that publishes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing

import dagster as dg
import duckdb
import pyarrow as pa

from pipeline.conversations import derive
from pipeline.lake import engine
from pipeline.lake.catalog import build_catalog, names_of, prices_of
from pipeline.lake.commit import restore_links, withdraw_unbegun
from pipeline.lake.files import ContractError
from pipeline.lake.schemas import LEDGER_DATASETS
from pipeline.lake.snapshot import left_out, reason
from pipeline.names.file import load_names
from pipeline.orchestration.assets.metadata import day_metadata
from pipeline.orchestration.resources import Services
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import load_prices
from pipeline.timeline import in_words
from pipeline.usage.rollup import DayPublished


def finalize(services: Services) -> None:
    """Let readers see what is published now, and clear up."""
    now = services.clock.of_api()
    if now is not None and (days := withdraw_unbegun(services.lake, now)):
        services.warn(f"removed, since they have not begun: {in_words(days)}")
    if ahead := services.clock.ahead:
        services.warn(
            f"the clock of this machine is {ahead:,.0f} s ahead of the API's, so the API's counts: "
            "set it right, for example by `timedatectl set-ntp true`"
        )
    report_odd_text(services)
    restore_links(services.lake)
    if services.settings.shared_catalog is None:
        _derive(services)
    build(services)


def _derive(services: Services) -> None:
    """Observe and reconcile what days still owe.

    Not where there is a shared lake: it takes the records of all days, and what the last sync has
    noted of listings. There days owe it until the next sync, whose home has both.
    """
    try:
        derive.finish(services.lake)
    except (duckdb.Error, pa.ArrowException, ContractError) as error:
        services.warn(
            "observed buckets or reconciliation stay older than the records: "
            f"{reason(services.lake, error)}"
        )


def build(services: Services) -> None:
    """Build the catalog; say what it leaves out, and where what a client had put into the one
    before is kept."""
    changed = (
        "another program had changed the catalog: it was replaced, and what was put into it is "
        "kept in"
    )
    build_catalog(
        services.lake,
        services.settings.catalog,
        on_set_aside=lambda folder: services.warn(f"{changed} {folder}"),
        on_damage=lambda damage: services.warn(left_out(damage)),
        prices=current_prices(services),
        names=current_names(services),
    )


def current_prices(services: Services) -> pa.Table | None:
    """The price list as it is now; where it is wrong, the prices that the catalog has."""
    settings = services.settings
    try:
        return load_prices(settings).table
    except HandWrittenError as error:
        services.warn(f"{error}; the catalog keeps the prices that it had")
        return prices_of(settings.catalog)


def current_names(services: Services) -> pa.Table | None:
    """The names as they are now; where their file is wrong, the names that the catalog has."""
    settings = services.settings
    try:
        return load_names(settings, services.lake).table
    except HandWrittenError as error:
        services.warn(f"{error}; the catalog keeps the names that it had")
        return names_of(settings.catalog)


def report_odd_text(services: Services) -> None:
    """Say once where answers held text that is not Unicode."""
    for sentence in services.odd_text.sentences():
        services.warn(sentence)


def report_disputed(services: Services, published: DayPublished) -> None:
    """Say of a day that was published whether it contradicts the API's own totals."""
    if published.disputed:
        services.warn(
            f"{published.day}: its totals are not the API's own, though it was read twice; it is "
            "never final, and each following run loads it again"
        )


class Materializations:
    """Reports to Dagster what became of a day, dataset by dataset, with the day's own metadata.

    A day is always published at every width. What a run did not select but changed all the same
    is reported as well: no file in the lake is newer than Dagster knows.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        services: Services,
        selected: Collection[str],
    ) -> None:
        self._context = context
        self._lake = services.lake
        self._selected = selected

    def with_results(self, published: DayPublished) -> None:
        """Attach the day to the materializations that the step reports when it ends well."""
        partition = published.day.isoformat()
        for name, metadata in self._metadata(published):
            if name in self._selected and isinstance(self._context, dg.AssetExecutionContext):
                self._context.add_asset_metadata(metadata, asset_key=name, partition_key=partition)
            else:
                self._report(name, partition, metadata)

    def at_once(self, published: DayPublished) -> None:
        """Report the day now: a step that fails reports none of its assets."""
        for name, metadata in self._metadata(published):
            self._report(name, published.day.isoformat(), metadata)

    def _report(self, name: str, partition: str, metadata: dict[str, dg.MetadataValue]) -> None:
        self._context.log_event(
            dg.AssetMaterialization(name, metadata=metadata, partition=partition)
        )

    def _metadata(
        self, published: DayPublished
    ) -> Iterator[tuple[str, dict[str, dg.MetadataValue]]]:
        with closing(engine.connect(self._lake)) as con:
            per_dataset = day_metadata(con, self._lake, published)
        for name, metadata in per_dataset.items():
            ledger = bool(published.changed) and name in LEDGER_DATASETS
            if name in self._selected or name in published.changed or ledger:
                yield name, metadata
