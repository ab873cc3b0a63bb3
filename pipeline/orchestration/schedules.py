"""When runs are launched: the jobs, and their schedules.

Belongs here: what is asked for again and how often.

The API may restate what it has reported, and does not say how late. So every schedule asks for a
trailing window of days again, each as a single run over the range: hourly for the days that still
move (MKA1_USAGE_LOOKBACK_DAYS, 3 by default), daily for a longer one
(MKA1_USAGE_DAILY_LOOKBACK_DAYS, 31 by default) that finds what came later still.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

from pipeline.orchestration.alert_sensor import ALERT_CHECKS
from pipeline.orchestration.assets import conversations, export, refresh, usage
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.resources import Services
from pipeline.settings import Settings
from pipeline.timeline import closed_through, day_of, trailing_days

if TYPE_CHECKING:  # what define_asset_job returns has no public name
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

JOB: Final = "usage_job"
CONVERSATIONS_JOB: Final = "conversations_job"
EXPORT_JOB: Final = "export_job"


def usage_job() -> "UnresolvedAssetJobDefinition":
    """Load, roll up, publish and check a day or a range of days."""
    return dg.define_asset_job(
        JOB,
        # What on-call wants to know is about now; a load may be about any day.
        selection=dg.AssetSelection.groups(usage.GROUP) - dg.AssetSelection.checks(*ALERT_CHECKS),
        description="Page the usage of UTC days into the lake, roll it up, publish it, check it.",
    )


def conversations_job() -> "UnresolvedAssetJobDefinition":
    """Read conversations of a day's or a range's users, observe, reconcile and check."""
    return dg.define_asset_job(
        CONVERSATIONS_JOB,
        selection=dg.AssetSelection.groups(conversations.GROUP),
        description=(
            "Read the conversations, items and responses of those with usage on UTC days that are "
            "loaded, and hold what is observed against what is reported."
        ),
    )


def conversations_schedule() -> dg.ScheduleDefinition:
    """The hourly schedule, some time after usage; off until it is switched on."""

    @dg.schedule(
        name="hourly_conversations",
        job_name=CONVERSATIONS_JOB,
        cron_schedule="25 * * * *",
        execution_timezone="UTC",
        description="Reads what is new of those with usage on the days that may still change.",
    )
    def following(
        context: dg.ScheduleEvaluationContext, services: dg.ResourceParam[Services]
    ) -> dg.RunRequest | dg.SkipReason:
        settings = services.settings
        if not settings.keys():
            return dg.SkipReason("MKA1_API_KEYS is not set: conversations are listed per key")
        today = day_of(closed_through(context.scheduled_execution_time.timestamp()) - 1)
        first, last = trailing_days(today, settings.lookback_days)
        loaded = [
            day
            for day in services.lake.days("usage_1d")
            if max(first, settings.first_day) <= day <= last
        ]
        if not loaded:
            return dg.SkipReason("no usage of the trailing days is loaded: usage_job comes first")
        return _request(context, min(loaded), max(loaded))

    return following


def export_job() -> "UnresolvedAssetJobDefinition":
    """Write the files for BI tools."""
    return dg.define_asset_job(
        EXPORT_JOB,
        selection=dg.AssetSelection.groups(export.GROUP),
        description="Write the files for BI tools, those that have changed.",
    )


def export_schedule() -> dg.ScheduleDefinition:
    """The hourly schedule, once usage and conversations are in; off until it is switched on."""

    @dg.schedule(
        name="hourly_export",
        job_name=EXPORT_JOB,
        cron_schedule="50 * * * *",
        execution_timezone="UTC",
        description="Writes what has changed of the files for BI tools.",
    )
    def exporting_files(
        context: dg.ScheduleEvaluationContext, services: dg.ResourceParam[Services]
    ) -> dg.RunRequest | dg.SkipReason:
        if not services.lake.days("usage_1d"):
            return dg.SkipReason("nothing is loaded yet: usage_job comes first")
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return exporting_files


def refresh_schedule() -> dg.ScheduleDefinition:
    """The daily schedule of the refresh, for what is restated later still; off by default."""

    @dg.schedule(
        name="daily_refresh",
        job_name=refresh.JOB,
        cron_schedule="5 4 * * *",
        execution_timezone="UTC",
        description="Finds the days that the API has restated, however long ago, and loads them.",
    )
    def refreshing(
        context: dg.ScheduleEvaluationContext, services: dg.ResourceParam[Services]
    ) -> dg.RunRequest | dg.SkipReason:
        if not services.lake.days("usage_1d"):
            return dg.SkipReason("nothing is loaded yet: usage_job comes first")
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return refreshing


def usage_schedules() -> list[dg.ScheduleDefinition]:
    """The hourly and the daily schedule; both are off until they are switched on."""
    return [
        _trailing(
            name="hourly_trailing_window",
            cron="5 * * * *",
            every=timedelta(hours=1),
            lookback=lambda settings: settings.lookback_days,
            description="Asks again for today and the days that the API may still restate.",
        ),
        _trailing(
            name="daily_long_window",
            cron="35 2 * * *",
            every=timedelta(days=1),
            lookback=lambda settings: settings.daily_lookback_days,
            description="Asks again for a month, for what the API restated late.",
        ),
    ]


def _trailing(
    *,
    name: str,
    cron: str,
    every: timedelta,
    lookback: Callable[[Settings], int],
    description: str,
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        job_name=JOB,
        cron_schedule=cron,
        execution_timezone="UTC",
        description=description,
    )
    def trailing(
        context: dg.ScheduleEvaluationContext, services: dg.ResourceParam[Services]
    ) -> dg.RunRequest | dg.SkipReason:
        settings = services.settings
        now = context.scheduled_execution_time.timestamp()
        # The minute before the tick: at midnight sharp, today has no closed minute yet.
        first, last = trailing_days(day_of(closed_through(now) - 1), lookback(settings))
        # What was open at the tick before is asked for again, even where no day is looked back on.
        first = min(first, day_of(int(now - every.total_seconds())))
        return _request(context, max(first, settings.first_day), last)

    return trailing


def _request(
    context: dg.ScheduleEvaluationContext, first: date, last: date
) -> dg.RunRequest | dg.SkipReason:
    if last < first:
        return dg.SkipReason(f"MKA1_USAGE_FIRST_DAY ({first}) has not come yet")
    tick = context.scheduled_execution_time.isoformat()
    return dg.RunRequest(run_key=tick, tags=range_tags(first, last))
