"""alerts, digest: what on-call wants to know and what a week came to, printed or sent."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipeline.cli.damage import reading
from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail
from pipeline.cli.options import as_time
from pipeline.messages import be, count
from pipeline.settings import Settings, load_settings
from pipeline.terminal import printable, say, short

if TYPE_CHECKING:
    from pipeline.alerts.alert import Alert, Evaluation
    from pipeline.notify.channel import Channel
    from pipeline.notify.message import Message
    from pipeline.notify.outbox import Outbox, Waiting
    from pipeline.notify.sending import Sent

NO_CHANNEL: Final = (
    "no channel is set: set MKA1_USAGE_SLACK_WEBHOOK, MKA1_USAGE_WEBHOOK_URL or MKA1_USAGE_SMTP_URL"
)
_SENT_BEFORE: Final = "the digest of that week was sent before"

At = Annotated[
    int | None,
    typer.Option(
        parser=as_time,
        metavar="TIME",
        help="Look as if it were then: ISO date, ISO time (UTC) or Unix seconds.",
    ),
]
Send = Annotated[
    bool, typer.Option("--send", help="Send it to the channels that are set (docs/messages.md).")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --send: print what would be sent, and send nothing.")
]


def alerts(at: At = None, send: Send = False, dry_run: DryRun = False) -> None:
    """Print what on-call wants to know, a line each: nothing where all is well.

    Late data, a user or key far above its own baseline, a measure that fell to zero, a model that
    fails, a budget that is used. Exit code 1 if any of it is an error, 0 for warnings. With --send,
    what began or ended since the last time goes to Slack, to a webhook and by mail, once.
    """
    _check(at, send, dry_run)
    with exit_codes():
        settings = load_settings()
        from pipeline.alerts.evaluate import evaluate
        from pipeline.lake.store import Lake
        from pipeline.notify.channels import channels_of
        from pipeline.notify.sending import pending_alerts, send_alerts

        lake = Lake(settings.lake, settings.lookback_days, settings.memory)

        def now() -> float:
            return time.time() if at is None else float(at)

        def evaluated() -> Mapping[Alert, Evaluation]:
            found = evaluate(lake, settings.thresholds, now(), files=settings)
            _refuse_nothing(settings, found)
            return found

        sent: Sent | None = None
        with reading(lake), _outbox(settings) as outbox:
            if send and not dry_run:
                channels = _channels(settings)
                found, sent = send_alerts(outbox, channels, evaluated, now)
            else:
                found = evaluated()
            if dry_run:
                channels = channels_of(settings)
                pending = pending_alerts(outbox, channels, found, now())
                _show(channels, pending, "nothing began or ended since the last time")
                return
        _print(found)
        failed = any(evaluation.severity == "error" for evaluation in found.values())
        if sent is not None:
            failed = _report(sent) or failed
        if failed:
            sys.stdout.flush()
            raise typer.Exit(FAILED)


def digest(at: At = None, send: Send = False, dry_run: DryRun = False) -> None:
    """Print what the last week came to, Monday to Sunday in UTC, or send it, once a week.

    Usage held against the week before, tokens and cost where they are known, the most active users
    and keys, budgets, alerts, and what of it may still change.
    """
    _check(at, send, dry_run)
    with exit_codes():
        settings = load_settings()
        from pipeline.lake.store import Lake
        from pipeline.lake.user_id_mode import UserIdModeError
        from pipeline.notify.channels import channels_of
        from pipeline.notify.digest import make_digest
        from pipeline.notify.rendering import as_text
        from pipeline.notify.sending import pending_digest, send_digest
        from pipeline.pricing.hand_written import HandWrittenError
        from pipeline.report.figures import NothingToReportError

        lake = Lake(settings.lake, settings.lookback_days, settings.memory)
        now = time.time() if at is None else float(at)

        def build() -> Message:
            return make_digest(lake, settings.thresholds, settings, now)

        try:
            with reading(lake), _outbox(settings) as outbox:
                if not send:
                    print(printable(as_text(build())), end="")
                    return
                if dry_run:
                    channels = channels_of(settings)
                    pending = pending_digest(outbox, channels, build())
                    _show(channels, pending, _SENT_BEFORE)
                    return
                sent = send_digest(outbox, _channels(settings), build)
        except (HandWrittenError, NothingToReportError, UserIdModeError) as error:
            fail(str(error), FAILED)
        if sent is None:
            say(_SENT_BEFORE)
        elif _report(sent):
            raise typer.Exit(FAILED)


def _check(at: int | None, send: bool, dry_run: bool) -> None:
    if dry_run and not send:
        raise typer.BadParameter("--dry-run shows what --send would send: give both")
    if send and at is not None and not dry_run:
        raise typer.BadParameter("--send is about now: leave --at away, or add --dry-run")


@contextmanager
def _outbox(settings: Settings) -> Iterator[Outbox]:
    """The state of what was sent; where it can't be used, that is the error."""
    from pipeline.notify.outbox import Outbox, OutboxError

    try:
        yield Outbox(settings.home)
    except OutboxError as error:
        fail(str(error), FAILED)


def _channels(settings: Settings) -> Sequence[Channel]:
    from pipeline.notify.channels import channels_of

    if not (channels := channels_of(settings)):
        fail(NO_CHANNEL, MISUSED)
    return channels


def _refuse_nothing(settings: Settings, found: Mapping[Alert, Evaluation]) -> None:
    from pipeline.alerts.lateness import NOTHING

    if found["late"].unjudged == NOTHING and not found["late"].broken:
        fail(f"nothing is loaded in {short(settings.lake)}: `mka1-usage run` loads", FAILED)


def _print(found: Mapping[Alert, Evaluation]) -> None:
    for alert, evaluation in found.items():
        for finding in evaluation.findings:
            print(f"{finding.severity}: {finding.line}")
        if evaluation.more:
            say(f"{alert}: {evaluation.more:,} more were found")
        if evaluation.broken:
            say(f"error: {alert}: {evaluation.broken}")
        if evaluation.unjudged and sys.stderr.isatty():  # whom cron mails, it is no news
            say(f"{alert}: not judged: {evaluation.unjudged}")
    if sys.stderr.isatty() and not any(evaluation.lines for evaluation in found.values()):
        say("nothing to report")


def _show(channels: Sequence[Channel], pending: Sequence[Waiting], nothing: str) -> None:
    """Print messages as text, and on stderr who would have them; `nothing`: why there is none."""
    from pipeline.notify.rendering import as_text

    print("\n---\n\n".join(printable(as_text(one.message)) for one in pending), end="")
    if not pending:
        say(f"{nothing}: nothing would be sent")
    elif not channels:
        say(f"nobody would have it: {NO_CHANNEL}")
    for channel in channels:
        if number := sum(channel.name in one.channels for one in pending):
            say(f"would be sent: {count(number, 'message')} to {channel.name} ({channel.where})")


def _report(sent: Sent) -> bool:
    """Say what was sent, and return whether anything was not."""
    if sent.words:
        say(f"sent: {sent.words}")
    for note in sent.notes:
        say(f"warning: {note}")
    for failure in sent.failures:
        say(f"error: {failure}")
    for name, number in sent.waiting.items():
        say(f"{count(number, 'message')} for {name} {be(number)} kept, for the next --send")
    return bool(sent.failures)
