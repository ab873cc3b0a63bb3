"""retention_job: drops what is not to be kept any longer, as `mka1-usage prune` does."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import dagster as dg

from pipeline.lake.retention import Pruned, prune
from pipeline.messages import count
from pipeline.orchestration.assets.finalize import build
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import committing
from pipeline.retention import Kind
from pipeline.timeline import in_words

JOB: Final = "retention_job"


@dg.op
def drop_old_tables(context: dg.OpExecutionContext, services: dg.ResourceParam[Services]) -> None:
    """Drop the tables of days that are older than the settings keep them."""
    found: list[Pruned] = []
    with committing(services, None) as work:
        work(
            lambda _: found.append(
                prune(services.lake, services.settings.retention, services.now())
            )
        )
    for pruned in found:
        _log(context, "dropped", pruned.dropped)
        _log(context, "to be kept again, once they are loaded again", pruned.kept_again)
        if pruned.not_final:
            context.log.warning(
                f"not dropped, since their usage is not final: {in_words(pruned.not_final)}"
            )
        if pruned.not_counted:
            context.log.warning(
                "items not dropped, since these days are not read, counted and compared to their "
                f"end: {in_words(pruned.not_counted)}"
            )
    if any(pruned.days for pruned in found):
        build(services)


@dg.job(
    name=JOB,
    description=(
        "Drops minutes, hours, items and contents of days that are older than they are kept."
    ),
)
def retention_job() -> None:
    """One step."""
    drop_old_tables()


def _log(
    context: dg.OpExecutionContext, became: str, days_by_kind: Mapping[Kind, Sequence[date]]
) -> None:
    for kind, days in days_by_kind.items():
        context.log.info(f"{kind} of {count(len(days), 'day')} {became}: {in_words(days)}")
