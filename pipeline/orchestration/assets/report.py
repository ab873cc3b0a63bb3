"""usage_report: the report as an asset, made anew from all that is loaded.

It has no partitions: a report is about the last days there are, whichever were loaded last.
"""

import base64
from typing import Final

import dagster as dg

from pipeline.lake.schemas import TOKENS, USAGE
from pipeline.lake.store import private_folder
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.names.file import load_names
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import pulled
from pipeline.pricing.budgets import load_budgets
from pipeline.pricing.prices import load_prices
from pipeline.report import page, writing
from pipeline.report.figures import Figures, NothingToReportError, read
from pipeline.shared_lake import copied
from pipeline.zones import zone

NAME: Final = "usage_report"
JOB: Final = "report_job"


class ReportConfig(dg.Config):
    """What a run may ask for."""

    tz: str = "UTC"
    """The time zone of the report's days and hours."""


@dg.asset(
    name=NAME,
    deps=[dataset.name for dataset in (*USAGE.values(), *TOKENS.values())],
    group_name="report",
    kinds={"html", "duckdb"},
    description="The last 28 days as a page of charts, and the charts as PNG, in `report/`.",
)
def usage_report(
    config: ReportConfig, services: dg.ResourceParam[Services]
) -> dg.MaterializeResult[None]:
    """Write the page and the pictures."""
    settings = services.settings
    pulled(services)
    try:
        prices = load_prices(settings)
        budgets = load_budgets(settings, prices)
        figures = read(
            *(services.lake, None, None, zone(config.tz), prices, budgets, settings.pseudonyms),
            load_names(settings, services.lake),
        )
    except (NothingToReportError, UserIdModeError, ValueError) as error:
        raise dg.Failure(str(error)) from error
    folder = settings.home / "report"
    private_folder(folder)
    html = folder / "usage.html"
    files = {folder / name: drawn for name, drawn in page.pictures(figures).items()}
    copy = copied(services.lake)
    rendered = page.render(figures, copy.at if copy else None)
    writing.write({html: rendered.encode(), **files})
    return dg.MaterializeResult(
        metadata={
            **_metadata(figures),
            "file": dg.MetadataValue.path(html),
            "pictures": dg.MetadataValue.path(folder),
        }
    )


report_job: Final = dg.define_asset_job(
    JOB,
    selection=dg.AssetSelection.assets(NAME),
    description="Make the report of what is loaded: a page of charts, and pictures.",
)


def _metadata(figures: Figures) -> dict[str, dg.MetadataValue]:
    words, svg = page.preview(figures)
    encoded = base64.b64encode(svg.encode()).decode()
    counts = figures.totals.counts._asdict().items()
    return {
        "days": dg.MetadataValue.text(
            f"{figures.period.first} to {figures.period.last} ({figures.period.zone.key})"
        ),
        **{name: dg.MetadataValue.int(n) for name, n in counts if n is not None},
        "users": dg.MetadataValue.int(figures.totals.users),
        "preview": dg.MetadataValue.md(f"![{words}](data:image/svg+xml;base64,{encoded})"),
    }
