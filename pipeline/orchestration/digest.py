"""The weekly digest as a job: it sends what the last week came to, to the channels that are set."""

import dagster as dg

from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.notify.channels import channels_of
from pipeline.notify.digest import make_digest
from pipeline.notify.outbox import Outbox, OutboxError
from pipeline.notify.sending import send_digest
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import pulled
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.report.figures import NothingToReportError

JOB = "digest_job"
NO_CHANNEL = "no channel for messages is set: docs/messages.md has the settings"


@dg.op
def send_last_week(context: dg.OpExecutionContext, services: dg.ResourceParam[Services]) -> None:
    """Send the digest, unless it was sent; fail where a channel does not take it."""
    settings = services.settings
    channels = channels_of(settings)
    if not channels:
        raise dg.Failure(NO_CHANNEL, allow_retries=False)
    pulled(services)
    try:
        sent = send_digest(
            Outbox(settings.home),
            channels,
            lambda: make_digest(services.lake, settings.thresholds, settings, services.now()),
        )
    except (HandWrittenError, NothingToReportError, OutboxError, UserIdModeError) as error:
        raise dg.Failure(str(error)) from error
    if sent is None:
        context.log.info("the digest of that week was sent before")
        return
    context.log.info(f"sent: {sent.words or 'nothing'}")
    for note in sent.notes:
        context.log.warning(note)
    if sent.failures:
        kept = "It is kept, and sent by the next evaluation of the alerts or the next run of this."
        raise dg.Failure("\n".join([*sent.failures, kept]))


@dg.job(
    name=JOB,
    description="Sends what the last week came to, once, to Slack, to a webhook and by mail.",
)
def digest_job() -> None:
    """One step."""
    send_last_week()
