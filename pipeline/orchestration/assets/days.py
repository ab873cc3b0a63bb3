"""Which days a run of the assets is about."""

from datetime import date

import dagster as dg

from pipeline.orchestration.partitions import days_of
from pipeline.orchestration.resources import Services
from pipeline.timeline import closed_through, day_of


def days_asked(context: dg.AssetExecutionContext, services: Services) -> list[date]:
    """The run's days; Failure where there are none, or one that is no partition."""
    days = days_of(context.run.tags)
    first_day = services.settings.first_day
    if not days:
        raise dg.Failure(
            "This run names no day: launch it with a partition or a range of partitions, such as "
            f"{first_day}...{first_day}."
        )
    if days[0] < first_day:
        raise dg.Failure(
            f"{days[0]} is before the first partition, {first_day}: set MKA1_USAGE_FIRST_DAY to "
            f"{days[0]} or earlier to load it."
        )
    begun_through = day_of(closed_through(services.now()) - 1)
    if days[-1] > begun_through:
        raise dg.Failure(
            f"{days[-1]} has no closed minute yet: the last day that can be loaded now is "
            f"{begun_through}."
        )
    return days
