"""When runs are launched: the jobs, and their schedules, which are off until they are switched on.

The API may restate what it has reported, and does not say how late. So the usage schedules compare
a trailing window of days again, each as a single run over the range: hourly for the days that still
move (MKA1_USAGE_LOOKBACK_DAYS), daily for a longer one (MKA1_USAGE_DAILY_LOOKBACK_DAYS). What each
of them finds is in docs/design.md, "Refresh".
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeAlias

import dagster as dg

from pipeline.messages import count
from pipeline.notify.channels import channels_of
from pipeline.orchestration import digest, retention
from pipeline.orchestration.alert_sensor import ALERT_CHECKS
from pipeline.orchestration.assets import conversations, export, meters, refresh, usage
from pipeline.orchestration.assets.days import loading
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import failing
from pipeline.timeline import closed_through, day_of, trailing_days
from pipeline.usage.changed_hours import Reads

JOB: Final = "usage_job"
CONVERSATIONS_JOB: Final = "conversations_job"
EXPORT_JOB: Final = "export_job"

usage_job: Final = dg.define_asset_job(
    JOB,
    # What on-call wants to know is about now; a load may be about any day.
    selection=dg.AssetSelection.groups(usage.GROUP, meters.GROUP)
    - dg.AssetSelection.checks(*ALERT_CHECKS),
    description="Page the usage of UTC days into the lake, roll it up, publish it, check it.",
)
conversations_job: Final = dg.define_asset_job(
    CONVERSATIONS_JOB,
    selection=dg.AssetSelection.groups(conversations.GROUP)
    - dg.AssetSelection.checks(*ALERT_CHECKS),
    description=(
        "Read the conversations, items and responses of those with usage on UTC days that are "
        "loaded, and hold what is observed against what is reported."
    ),
)
export_job: Final = dg.define_asset_job(
    EXPORT_JOB,
    selection=dg.AssetSelection.groups(export.GROUP),
    description="Write the files for BI tools, those that have changed.",
)


@dg.op
def expire_shared(context: dg.OpExecutionContext, services: dg.ResourceParam[Services]) -> None:
    """Remove from the shared lake what no reader of the last day needs."""
    with failing():
        removed = services.shared.expire(services.now()) if services.shared else None
    if removed is not None:
        context.log.info(
            f"{count(removed.snapshots, 'snapshot')} and {count(removed.files, 'file')} "
            f"({removed.bytes / 1e6:,.1f} MB) removed"
        )


@dg.job(
    name="expire_job",
    description="Drop old snapshots of the shared lake, and files that nothing refers to.",
)
def expire_job() -> None:
    """One step."""
    expire_shared()


_Tick: TypeAlias = dg.RunRequest | dg.SkipReason


def _schedule(
    name: str,
    job: str,
    cron: str,
    description: str,
    request: Callable[[Services, datetime], _Tick],
) -> dg.ScheduleDefinition:
    """A schedule in UTC; `request` says what its tick of a moment launches."""

    @dg.schedule(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        description=description,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, services: dg.ResourceParam[Services]
    ) -> _Tick:
        return request(services, context.scheduled_execution_time)

    return schedule


def _over(
    first: date, last: date, tick: datetime, config: Mapping[str, Any] | None = None
) -> _Tick:
    tags = range_tags(first, last)
    return dg.RunRequest(run_key=tick.isoformat(), tags=tags, run_config=config)


def _trailing(
    services: Services, tick: datetime, lookback_days: int, every: timedelta, reads: Reads
) -> _Tick:
    first, last = _window(services, tick, lookback_days, every)
    if last < first:
        return dg.SkipReason(f"MKA1_USAGE_FIRST_DAY ({first}) has not come yet")
    return _over(first, last, tick, loading(reads, services))


def _window(
    services: Services, tick: datetime, lookback_days: int, every: timedelta
) -> tuple[date, date]:
    """First and last day that a tick is about; the first comes later where none has come yet."""
    now = tick.timestamp()
    # The minute before the tick: at midnight sharp, today has no closed minute yet.
    first, last = trailing_days(day_of(closed_through(now) - 1), lookback_days)
    # What was open at the tick before is asked for again, even where no day is looked back on.
    first = min(first, day_of(int(now - every.total_seconds())))
    return max(first, services.settings.first_day), last


def _published(services: Services) -> list[date]:
    with failing():
        return services.published_days()


def _of_loaded_days(services: Services, tick: datetime) -> _Tick:
    settings = services.settings
    if not settings.keys():
        return dg.SkipReason("MKA1_API_KEYS is not set: conversations are listed per key")
    first, last = _window(services, tick, settings.lookback_days, timedelta(hours=1))
    loaded = [day for day in _published(services) if first <= day <= last]
    if not loaded:
        return dg.SkipReason("no usage of the trailing days is loaded: usage_job comes first")
    return _over(min(loaded), max(loaded), tick)


def _once_loaded(services: Services, tick: datetime) -> _Tick:
    if not _published(services):
        return dg.SkipReason("nothing is loaded yet: usage_job comes first")
    return dg.RunRequest(run_key=tick.isoformat())


def _where_channels_are(services: Services, tick: datetime) -> _Tick:
    if not channels_of(services.settings):
        return dg.SkipReason(digest.NO_CHANNEL)
    return _once_loaded(services, tick)


def _where_anything_is_dropped(services: Services, tick: datetime) -> _Tick:
    if not services.settings.retention.is_set:
        return dg.SkipReason("all is kept for ever: no MKA1_USAGE_KEEP_…_DAYS is set")
    return _once_loaded(services, tick)


conversations_schedule: Final = _schedule(
    "hourly_conversations",
    CONVERSATIONS_JOB,
    "25 * * * *",  # after usage
    "Reads what is new of those with usage on the days that may still change.",
    _of_loaded_days,
)
LOADING: Final = (
    _schedule(
        "hourly_trailing_window",
        JOB,
        "5 * * * *",
        "Compares today and the days that the API may still restate by their hours and keys, and "
        "reads those that differ.",
        lambda services, tick: _trailing(
            services, tick, services.settings.lookback_days, timedelta(hours=1), "totals"
        ),
    ),
    _schedule(
        "daily_long_window",
        JOB,
        "35 2 * * *",
        "Compares a month by user and key, for what the API restated late, and reads the hours "
        "that differ.",
        lambda services, tick: _trailing(
            services, tick, services.settings.daily_lookback_days, timedelta(days=1), "days"
        ),
    ),
    conversations_schedule,
    _schedule(
        "daily_refresh",
        refresh.JOB,
        "5 4 * * *",
        "Finds the days that the API has restated, however long ago, and loads them.",
        _once_loaded,
    ),
)
"""The schedules that load from the API."""
EXPIRING: Final = _schedule(
    "daily_expire",
    expire_job.name,
    "15 5 * * *",
    "Removes from the shared lake what no reader of the last day needs.",
    lambda _, tick: dg.RunRequest(run_key=tick.isoformat()),
)
"""Where there is a shared lake."""
SCHEDULES: Final = (
    *LOADING,
    _schedule(
        "hourly_export",
        EXPORT_JOB,
        "50 * * * *",  # once usage and conversations are in
        "Writes what has changed of the files for BI tools.",
        _once_loaded,
    ),
    _schedule(
        "weekly_digest",
        digest.JOB,
        "0 6 * * 1",  # once the daily schedules have compared the week
        "Sends what the last week came to, to the channels for messages that are set.",
        _where_channels_are,
    ),
    _schedule(
        "daily_retention",
        retention.JOB,
        "35 5 * * *",  # once the refresh has made old days final
        "Drops minutes, hours, items and contents of days that are older than they are kept.",
        _where_anything_is_dropped,
    ),
)
