"""Evaluate, note what changed, send it: in this order, by one process of a home at a time.

What changed is saved before it is sent, so nothing is lost where a channel fails or the process is
killed, and of two processes one finds it saved by the other. A message is sent twice only where its
channel took it and the process was killed before it could note that. What a channel has not taken
for LONGEST_DAYS is given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.alerts.alert import Alert, Evaluation
from pipeline.messages import count
from pipeline.notify.changes import changes, message_of
from pipeline.notify.channel import Channel, ChannelError, RefusedError
from pipeline.notify.message import Message
from pipeline.notify.outbox import Outbox, State, Waiting
from pipeline.timeline import DAY, day_of

_WAIT: Final = 60.0
"""Seconds that a process which sends is waited for."""
_KEPT_DIGESTS: Final = 8
LONGEST_DAYS: Final = 14
"""How long a message waits for a channel that fails, refuses it, or is not set any more."""

Found = Mapping[Alert, Evaluation]


@dataclass(slots=True)
class Sent:
    """What became of messages, by channel."""

    delivered: dict[str, int] = field(default_factory=dict[str, int])
    waiting: dict[str, int] = field(default_factory=dict[str, int])
    failures: list[str] = field(default_factory=list[str])
    """Why a channel took none, one line each."""
    notes: list[str] = field(default_factory=list[str])
    """What a person should know though the messages were taken."""

    @property
    def words(self) -> str:
        """What was delivered: `1 message to slack, 2 messages to mail`; empty if nothing was."""
        delivered = self.delivered.items()
        return ", ".join(f"{count(number, 'message')} to {name}" for name, number in delivered)


def send_alerts(
    outbox: Outbox,
    channels: Sequence[Channel],
    evaluate: Callable[[], Found],
    now: Callable[[], float],
    *,
    wait: float = _WAIT,
    until: float | None = None,
) -> tuple[Found, Sent]:
    """Evaluate, and send what began or ended since the evaluation before, and what still waits.

    `evaluate` runs while no other process does this, so an older evaluation never comes after a
    newer one. `until`: no message is begun after that moment of the monotonic clock (seconds).
    OutboxError where the state can't be used.
    """
    with outbox.held(wait) as state:
        found = evaluate()
        moment = now()
        state.open, changed = changes(state.open, found, moment)
        if changed:
            _add(state, message_of(changed, moment), channels)
        notes = _give_up(state, moment)
        outbox.save(state)
        sent = _deliver(outbox, state, channels, until)
        sent.notes[:0] = notes
        return found, sent


def pending_alerts(
    outbox: Outbox, channels: Sequence[Channel], found: Found, now: float
) -> list[Waiting]:
    """What `send_alerts` would send to which of the channels; what is new is there without any."""
    state = outbox.read()
    _give_up(state, now)
    _, changed = changes(state.open, found, now)
    return _pending(state, channels, message_of(changed, now) if changed else None)


def pending_digest(outbox: Outbox, channels: Sequence[Channel], message: Message) -> list[Waiting]:
    """The same of `send_digest`, whose message this is."""
    state = outbox.read()
    _give_up(state, message.made_at)
    return _pending(state, channels, None if message.id in state.digests else message)


def send_digest(
    outbox: Outbox,
    channels: Sequence[Channel],
    build: Callable[[], Message],
    *,
    wait: float = _WAIT,
) -> Sent | None:
    """Send a digest, and what still waits; None where it was sent before, or waits already.

    `build` runs while no other process sends. OutboxError where the state can't be used.
    """
    with outbox.held(wait) as state:
        message = build()
        is_new = message.id not in state.digests
        if is_new:
            _add(state, message, channels)
            state.digests = [*state.digests, message.id][-_KEPT_DIGESTS:]
        notes = _give_up(state, message.made_at)
        outbox.save(state)
        sent = _deliver(outbox, state, channels, None)
        sent.notes[:0] = notes
    return sent if is_new or sent.delivered or sent.failures or sent.notes else None


def _add(state: State, message: Message, channels: Sequence[Channel]) -> None:
    state.waiting.append(Waiting(message, tuple(channel.name for channel in channels)))


def _give_up(state: State, now: float) -> list[str]:
    """Let nothing wait that was made more than LONGEST_DAYS ago; a line for each."""
    oldest = now - LONGEST_DAYS * DAY
    notes = [
        f"not taken by {' and '.join(one.channels)}, and given up after {LONGEST_DAYS} days: "
        f"{one.message.title!r} of {day_of(one.message.made_at)}"
        for one in state.waiting
        if one.message.made_at < oldest
    ]
    state.waiting = [one for one in state.waiting if one.message.made_at >= oldest]
    return notes


def _deliver(
    outbox: Outbox, state: State, channels: Sequence[Channel], until: float | None
) -> Sent:
    """Hand each channel what waits for it, the oldest first, until it fails.

    A message that it refuses keeps waiting, and does not hold up those behind it.
    """
    sent = Sent()
    for channel in channels:
        for one in [it for it in state.waiting if channel.name in it.channels]:
            if until is not None and time.monotonic() > until:
                break
            try:
                sent.notes += [f"{channel.name}: {note}" for note in channel.send(one.message)]
            except ChannelError as error:
                sent.failures.append(f"{channel.name}: {error}")
                if isinstance(error, RefusedError):
                    continue
                break
            sent.delivered[channel.name] = sent.delivered.get(channel.name, 0) + 1
            left = _only(one, {*one.channels} - {channel.name})
            place = [it.message.id for it in state.waiting].index(one.message.id)
            state.waiting[place : place + 1] = [left] if left.channels else []
            outbox.save(state)
    for channel in channels:
        if number := sum(channel.name in one.channels for one in state.waiting):
            sent.waiting[channel.name] = number
    return sent


def _pending(state: State, channels: Sequence[Channel], new: Message | None) -> list[Waiting]:
    names = [channel.name for channel in channels]
    waiting = [_only(one, {*names}) for one in state.waiting]
    return [
        *(one for one in waiting if one.channels),
        *([] if new is None else [Waiting(new, tuple(names))]),
    ]


def _only(waiting: Waiting, names: set[str]) -> Waiting:
    return Waiting(waiting.message, tuple(name for name in waiting.channels if name in names))
