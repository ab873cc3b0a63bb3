"""The refresh as a job of its own: it decides itself which days it is about.

Belongs here: what Dagster runs, is told and shows.
"""

import dagster as dg

from pipeline import commands
from pipeline.api import ApiError
from pipeline.assets.shown import Shown, conclude, tell_disputed
from pipeline.assets.usage import API_POOL, PUBLISHED
from pipeline.interrupts import only_the_first
from pipeline.lake.identity import IdentityError
from pipeline.loading import LoadError, Progress
from pipeline.refreshing import Refreshed, refresh_days
from pipeline.resources import Workspace
from pipeline.settings import SettingsError
from pipeline.timeline import in_words
from pipeline.words import count

JOB = "refresh_job"


@dg.op(pool=API_POOL)
def refresh_usage(context: dg.OpExecutionContext, workspace: dg.ResourceParam[Workspace]) -> None:
    """Compare all that is loaded with the API's own days, and load again what it has restated."""
    shown = Shown(context, workspace, PUBLISHED)

    def tell(progress: Progress) -> None:
        if progress.published:
            shown.at_once(progress.published)
            tell_disputed(workspace, progress.published)
        workspace.on_progress(progress)

    def found(refreshed: Refreshed) -> None:
        context.log.info(
            f"{count(len(refreshed.compared), 'day')} compared in "
            f"{count(refreshed.requests, 'request')}; to be loaded again: "
            f"{in_words(refreshed.changed)}"
        )
        workspace.on_refreshed(refreshed)

    with only_the_first() as interruption:
        try:
            refresh_days(
                workspace.connect,
                workspace.lake,
                pseudonyms=workspace.settings.pseudonyms,
                on_found=found,
                on_progress=tell,
                now=workspace.clock,
            )
        except LoadError as error:  # days that were not loaded still differ
            raise dg.Failure(f"{error} Resume with: {commands.REFRESH}") from error
        except (ApiError, IdentityError, SettingsError) as error:
            raise dg.Failure(str(error)) from error
        finally:
            interruption.hold()
            conclude(workspace)
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
