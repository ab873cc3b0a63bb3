"""The refresh as a job of its own: it decides itself which days it is about.

Belongs here: what Dagster runs, is told and shows. Does not belong here: comparing and loading
(`pipeline.refreshing`).
"""

import dagster as dg

from pipeline.api import ApiError
from pipeline.assets.shown import Shown, conclude, tell_odd_text
from pipeline.assets.usage import API_POOL, PUBLISHED
from pipeline.lake.identity import IdentityError
from pipeline.loading import LoadError, Progress
from pipeline.refreshing import Refreshed, refresh_days
from pipeline.resources import Workspace
from pipeline.settings import SettingsError
from pipeline.timeline import in_words

JOB = "refresh_job"


@dg.op(pool=API_POOL)
def refresh_usage(context: dg.OpExecutionContext, workspace: dg.ResourceParam[Workspace]) -> None:
    """Compare all that is loaded with the API's own days, and load again what it has restated."""
    shown = Shown(context, workspace, PUBLISHED)

    def tell(progress: Progress) -> None:
        if progress.published:
            shown.at_once(progress.published)
        workspace.on_progress(progress)

    def found(refreshed: Refreshed) -> None:
        context.log.info(
            f"{len(refreshed.compared):,} days compared in {refreshed.requests:,} requests; to be "
            f"loaded again: {in_words(refreshed.changed)}"
        )
        workspace.on_refreshed(refreshed)

    try:
        refresh_days(
            workspace.connect,
            workspace.lake,
            pseudonyms=workspace.settings.pseudonyms,
            on_found=found,
            on_progress=tell,
            now=workspace.now,
        )
    except (ApiError, LoadError, IdentityError, SettingsError) as error:
        raise dg.Failure(str(error)) from error
    finally:
        tell_odd_text(context, workspace)
        conclude(workspace)


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
