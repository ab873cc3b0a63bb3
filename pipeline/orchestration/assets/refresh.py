"""The refresh as a job of its own: it decides itself which days it is about."""

import dagster as dg

from pipeline import messages
from pipeline.api import ApiError
from pipeline.interrupts import only_the_first
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.messages import count
from pipeline.orchestration.assets.finalize import Materializations, finalize, report_disputed
from pipeline.orchestration.assets.usage import API_POOL, PUBLISHED
from pipeline.orchestration.resources import Services
from pipeline.settings import SettingsError
from pipeline.timeline import in_words
from pipeline.usage.load import LoadError, Progress
from pipeline.usage.refresh import Refreshed, refresh_days

JOB = "refresh_job"


@dg.op(pool=API_POOL)
def refresh_usage(context: dg.OpExecutionContext, services: dg.ResourceParam[Services]) -> None:
    """Compare all that is loaded with the API's own days, and load again what it has restated."""
    shown = Materializations(context, services, PUBLISHED)

    def report(progress: Progress) -> None:
        if progress.published:
            shown.at_once(progress.published)
            report_disputed(services, progress.published)
        services.on_progress(progress)

    def found(refreshed: Refreshed) -> None:
        context.log.info(
            f"{count(len(refreshed.compared), 'day')} compared in "
            f"{count(refreshed.requests, 'request')}; to be loaded again: "
            f"{in_words(refreshed.changed)}"
        )
        services.on_refreshed(refreshed)

    with only_the_first() as interruption:
        try:
            refresh_days(
                services.connect,
                services.lake,
                pseudonyms=services.settings.pseudonyms,
                on_found=found,
                on_progress=report,
                now=services.clock,
            )
        except LoadError as error:  # days that were not loaded still differ
            raise dg.Failure(f"{error} Resume with: {messages.REFRESH}") from error
        except (ApiError, UserIdModeError, SettingsError) as error:
            raise dg.Failure(str(error)) from error
        finally:
            interruption.hold()
            finalize(services)
    interruption.deliver()


@dg.job(
    name=JOB,
    description=(
        "Find the days that the API has restated, however long ago, by one cheap question over all "
        "that is loaded, and load exactly those again; `revisions` keeps every value that changed."
    ),
)
def refresh_job() -> None:
    """One step."""
    refresh_usage()
