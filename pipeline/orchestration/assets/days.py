"""Which days a run of the assets is about, and how much of them it reads again."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, Literal

import dagster as dg

from pipeline import messages
from pipeline.orchestration.partitions import days_of
from pipeline.orchestration.resources import Services
from pipeline.timeline import closed_through, day_of, trailing_days
from pipeline.usage.changed_hours import Reads

LOAD_USAGE: Final = "load_usage"
LOAD_METERS: Final = "load_meters"


class LoadConfig(dg.Config):
    """What a run may ask for beside its days."""

    reads: Reads = "full"
    """Of days that are loaded: full, every minute; totals, the hours whose totals by key have
    changed; days, those of days that differ by user and key as well."""
    engine: Literal["duckdb", "spark"] = "duckdb"
    """What rolls up again, where raw_usage is not selected. spark: the hours and days of the shared
    lake's minutes, on MKA1_USAGE_SPARK_REMOTE."""


def loading(reads: Reads, services: Services) -> dict[str, Any]:
    """The run config of a load of usage, and of the other endpoints where they are loaded."""
    steps = [LOAD_USAGE, *([LOAD_METERS] if services.feeds else [])]
    return {"ops": {step: {"config": {"reads": reads}} for step in steps}}


def reads_of(run_config: Mapping[str, Any], step: str) -> Reads:
    """How much a run with this config reads in a step."""
    of_step = run_config.get("ops", {}).get(step, {})
    reads: Reads = of_step.get("config", {}).get("reads", LoadConfig().reads)
    return reads


def resume(services: Services, missing: Sequence[date], reads: Reads) -> str:
    """How a person goes on with a load that lacks these days."""
    today = day_of(closed_through(services.now()) - 1)
    first, _ = trailing_days(today, services.settings.lookback_days)
    trailing = reads == "totals" and min(missing) >= first
    return messages.resume(missing, *services.flags, trailing=trailing)


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
