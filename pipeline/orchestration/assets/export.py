"""bi_export: the lake as files for BI tools, as an asset.

It has no partitions: files for BI tools are of all days, and only those that change are written.
"""

from typing import Final

import dagster as dg
from pydantic import Field

from pipeline.export.export import Exported, ExportError, export
from pipeline.export.files import Format
from pipeline.export.folder import FolderError
from pipeline.export.tables import UnknownTableError
from pipeline.lake.schemas import COSTS, COVERAGE, TOKENS, USAGE
from pipeline.names.file import load_names
from pipeline.orchestration.assets.finalize import current_prices
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import pulled
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.settings import SettingsError
from pipeline.timeline import in_words

GROUP: Final = "exports"


class ExportConfig(dg.Config):
    """What a run may ask for; without it, the default of `mka1-usage export`."""

    tables: list[str] = Field(default_factory=list)
    form: Format = "parquet"
    by_day: bool = False


def export_asset(*, bills: bool) -> dg.AssetsDefinition:
    """The asset; it reads what is billed where that is loaded."""

    @dg.asset(
        deps=[
            *(dataset.name for dataset in (*USAGE.values(), TOKENS["1m"], TOKENS["1h"])),
            *((COSTS.name,) if bills else ()),
            COVERAGE.name,
        ],
        group_name=GROUP,
        kinds={"parquet", "duckdb"},
        description=(
            "A star schema (fact_usage, dim_user, dim_api_key, dim_date; fact_tokens, fact_costs "
            "and dim_model where there are responses or bills) and the usage tables as files for "
            "BI tools, of all days that are loaded, in MKA1_USAGE_EXPORT_DIR."
        ),
    )
    def bi_export(
        context: dg.AssetExecutionContext,
        config: ExportConfig,
        services: dg.ResourceParam[Services],
    ) -> dg.MaterializeResult[None]:
        """Export, and show what came of it."""
        pulled(services)
        try:
            settings = services.settings
            exported = export(
                services.lake,
                settings.export_dir,
                config.tables,
                form=config.form,
                by_day=config.by_day,
                names=load_names(settings, services.lake, settings.export_names),
                readers=settings.export_readable_by,
                prices=current_prices(services),
            )
        except (
            ExportError,
            UnknownTableError,
            FolderError,
            HandWrittenError,
            SettingsError,
            OSError,
        ) as error:
            raise dg.Failure(str(error)) from error
        for note in exported.notes:
            context.log.warning(note)
        return dg.MaterializeResult(metadata=_metadata(exported))

    return bi_export


def _metadata(exported: Exported) -> dict[str, dg.MetadataValue]:
    lines = [f"| {name} | {rows:,} |" for name, rows in exported.rows.items()]
    return {
        "dagster/row_count": dg.MetadataValue.int(sum(exported.rows.values())),
        "tables": dg.MetadataValue.md("\n".join(["| table | rows |", "| --- | ---: |", *lines])),
        "bytes": dg.MetadataValue.int(sum(exported.sizes.values())),
        "files_written": dg.MetadataValue.int(exported.replaced.written),
        "first_day": dg.MetadataValue.text(f"{exported.days[0]}"),
        "last_day": dg.MetadataValue.text(f"{exported.days[-1]}"),
        "not_loaded": dg.MetadataValue.text(in_words(exported.lacking.missing)),
        "hours_not_kept": dg.MetadataValue.text(in_words(exported.lacking.dropped)),
        "loaded_in_part": dg.MetadataValue.text(in_words(exported.lacking.in_part)),
        "disputed": dg.MetadataValue.text(in_words(exported.lacking.disputed)),
        "folder": dg.MetadataValue.path(exported.folder),
    }
