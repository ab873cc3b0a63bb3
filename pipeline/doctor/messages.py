"""Do messages arrive? Which channels are set, and what they have not taken. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.doctor.finding import CheckContext, Finding, failed, ok, skipped, warning
from pipeline.messages import be, count
from pipeline.notify.channels import channels_of
from pipeline.notify.outbox import Outbox, OutboxError
from pipeline.timeline import iso


def channels(context: CheckContext) -> Iterator[Finding]:
    """What is set, and what waits for each channel."""
    found = channels_of(context.settings)
    if not found:
        yield skipped("no channel is set: alerts are not sent")
        return
    try:
        state = Outbox(context.settings.home).read()
    except OutboxError as error:
        yield failed(str(error), "remove that file")
        return
    for channel in found:
        waiting = [one for one in state.waiting if channel.name in one.channels]
        if waiting:
            number, since = len(waiting), iso(waiting[0].message.made_at)
            yield warning(
                f"{count(number, 'message')} {be(number)} waiting for it since {since}",
                "run `mka1-usage alerts --send`: it sends them, or says why it can't",
                channel.name,
            )
    if not any(set(one.channels) & {channel.name for channel in found} for one in state.waiting):
        yield ok(", ".join(f"{channel.name} ({channel.where})" for channel in found))
