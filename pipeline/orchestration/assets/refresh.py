"""The refresh as a job of its own: it decides itself which days it is about."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from pipeline import messages
from pipeline.api import ApiError, QuotaExhausted, Unauthorized, Unavailable
from pipeline.interrupts import only_the_first
from pipeline.lake.manifest import BILLS
from pipeline.lake.schemas import COST_DATASETS, METER_DATASETS
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.messages import count
from pipeline.orchestration.assets.finalize import Materializations, finalize, report_disputed
from pipeline.orchestration.assets.meters import report_at_once
from pipeline.orchestration.assets.usage import API_POOL, PUBLISHED
from pipeline.orchestration.recording import recording
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import committing
from pipeline.settings import SettingsError
from pipeline.timeline import closed_through, day_of, in_words
from pipeline.usage.bills import billed_days, load_bills, restated_bills
from pipeline.usage.feed import CONVERSATIONS
from pipeline.usage.load import LoadError, Progress
from pipeline.usage.refresh import Refreshed, days_to_compare, refresh_days
from pipeline.usage.rollup import DayPublished

JOB = "refresh_job"


@dg.op(pool=API_POOL)
def refresh_usage(context: dg.OpExecutionContext, services: dg.ResourceParam[Services]) -> None:
    """Compare all that is loaded with the API's own days, and load again what it has restated."""
    reports = _Reports(context, services)

    def found(refreshed: Refreshed) -> None:
        of = f"{refreshed.endpoint}: " if refreshed.endpoint else ""
        context.log.info(
            f"{of}{count(len(refreshed.compared), 'day')} compared in "
            f"{count(refreshed.requests, 'request')}; to be loaded again: "
            f"{in_words(refreshed.changed)}"
        )
        services.on_refreshed(refreshed)

    def work(_: list[date]) -> None:
        feeds = (CONVERSATIONS, *services.feeds)
        # Looked up first: what is damaged of one endpoint may be the others' as well, and to load
        # that one again leaves the others out.
        days = [days_to_compare(services.lake, feed) for feed in feeds]
        failed: list[ApiError | LoadError] = []
        for feed, asked in zip(feeds, days, strict=True):
            try:
                refresh_days(
                    services.connect,
                    services.lake,
                    asked,
                    feed=feed,
                    pseudonyms=services.settings.pseudonyms,
                    on_found=found,
                    on_progress=reports.listen,
                    now=services.clock,
                )
            except (Unauthorized, QuotaExhausted, Unavailable):  # so it would be with the others
                raise
            except (ApiError, LoadError) as error:
                context.log.warning(f"{feed.endpoint or 'conversations'}: {error}")
                failed.append(error)
        if services.has_bills:
            _refresh_bills(services, reports)
        if failed:
            raise failed[0]

    with (
        recording(context, services),
        only_the_first() as interruption,
        committing(services, None) as do,
    ):
        try:
            do(work)
        except LoadError as error:  # days that were not loaded still differ
            raise dg.Failure(f"{error} Resume with: {messages.REFRESH}") from error
        except (ApiError, UserIdModeError, SettingsError) as error:
            raise dg.Failure(str(error)) from error
        finally:
            interruption.hold()
            finalize(services)
            reports.late()
    interruption.deliver()


class _Reports:
    """Lets Dagster know what became of a day: at once, or where it may have to be done again,
    once, at the end."""

    def __init__(self, context: dg.OpExecutionContext, services: Services) -> None:
        self._context = context
        self._services = services
        self._usage = Materializations(context, services, PUBLISHED)
        self._late: dict[tuple[date, str], DayPublished] = {}

    def listen(self, progress: Progress) -> None:
        """Take in how far a load is."""
        if progress.published:
            self.report(progress.published, progress.endpoint)
            report_disputed(self._services, progress.published)
        self._services.on_progress(progress)

    def report(self, published: DayPublished, endpoint: str) -> None:
        """Report a day of an endpoint."""
        if self._services.shared is None:
            self._report(published, endpoint)
        else:
            self._late[published.day, endpoint] = published

    def late(self) -> None:
        """Report what has waited for this."""
        for (_, endpoint), published in self._late.items():
            self._report(published, endpoint)

    def _report(self, published: DayPublished, endpoint: str) -> None:
        if not endpoint:
            self._usage.at_once(published)
        else:
            tables = COST_DATASETS if endpoint == BILLS else METER_DATASETS
            report_at_once(self._context, self._services.lake, [published], tables)


def _refresh_bills(services: Services, reports: _Reports) -> None:
    """Ask again for the bills of days that are over and of which the API says another total."""
    lake, today = services.lake, day_of(closed_through(services.clock()))
    days = [day for day in billed_days(lake) if day < today]
    restated = restated_bills(services.connect, lake, days)
    services.on_note(
        f"bills of {count(len(days), 'day')} compared; to be asked for again: {in_words(restated)}"
    )
    published: Sequence[DayPublished] = ()
    try:
        published = load_bills(
            services.connect,
            lake,
            restated,
            pseudonyms=services.settings.pseudonyms,
            now=services.clock,
        )
    except LoadError as error:
        published = error.published
        raise
    finally:
        for one in published:
            reports.report(one, BILLS)


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
