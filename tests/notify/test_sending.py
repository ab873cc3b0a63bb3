"""A beginning is sent once, whatever fails: channels, processes, the disk's file."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs

from pipeline.alerts.alert import Evaluation, Finding
from pipeline.notify.channel import ChannelError, RefusedError
from pipeline.notify.message import Message
from pipeline.notify.outbox import Outbox, OutboxError
from pipeline.notify.sending import (
    LONGEST_DAYS,
    Found,
    Sent,
    pending_alerts,
    pending_digest,
    send_alerts,
    send_digest,
)
from pipeline.timeline import DAY
from tests.bounded import join

SPIKE = Finding("spike", "warning", "u", 0, "user u", "select 1")
FOUND: Found = {"spike": Evaluation([SPIKE])}
NOTHING: Found = {"spike": Evaluation()}
DIGEST = Message("digest-2024-01-01-2024-01-07", "digest", "Usage", 0, (), {})


class Killed(BaseException):
    """As if the process had ended there."""


@dataclass
class Fake:
    """A channel that keeps what it is sent, and fails as long as it is told to."""

    name: str = "fake"
    where: str = "nowhere"
    taken: list[str] = field(default_factory=list[str])
    error: BaseException | None = None
    refused: str = ""
    """The title of the message that it does not take."""

    def send(self, message: Message) -> Sequence[str]:
        """Take it, or fail."""
        if self.error is not None:
            raise self.error
        if message.title == self.refused:
            raise RefusedError("refused")
        self.taken.append(message.title)
        return ()


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "home")


def send(outbox: Outbox, *channels: Fake, found: Found = FOUND, day: float = 0) -> Sent:
    """One evaluation that finds this."""
    return send_alerts(outbox, channels, lambda: found, lambda: day * DAY)[1]


def test_it_is_sent_when_it_begins_and_when_it_ends_to_each_channel(outbox: Outbox) -> None:
    one, other = Fake("one"), Fake("other")
    for found in (FOUND, FOUND, NOTHING, NOTHING):
        send(outbox, one, other, found=found)
    assert one.taken == other.taken == ["warning: user u", "ended: user u"]
    assert not outbox.read().waiting


def test_a_channel_that_fails_gets_it_with_the_next_evaluation_and_others_get_it_once(
    outbox: Outbox,
) -> None:
    good, bad = Fake("good"), Fake("bad", error=ChannelError("no connection"))
    sent = send(outbox, bad, good)
    assert sent.failures == ["bad: no connection"]
    assert (sent.delivered, sent.waiting) == ({"good": 1}, {"bad": 1})
    send(outbox, bad, good, found=NOTHING)
    bad.error = None
    sent = send(outbox, bad, good, found=NOTHING)
    assert sent.words == "2 messages to bad"
    assert good.taken == bad.taken == ["warning: user u", "ended: user u"]


@pytest.mark.parametrize("killed_in", ["evaluate", "send"])
def test_whoever_is_killed_loses_no_message(outbox: Outbox, killed_in: str) -> None:
    channel = Fake(error=Killed() if killed_in == "send" else None)

    def evaluate() -> Found:
        if killed_in == "evaluate":
            raise Killed
        return FOUND

    with pytest.raises(Killed):
        send_alerts(outbox, [channel], evaluate, lambda: 0.0)
    channel.error = None
    send(outbox, channel)
    send(outbox, channel)
    assert channel.taken == ["warning: user u"]


def test_of_several_at_once_one_sends(outbox: Outbox) -> None:
    channel = Fake()
    threads = [threading.Thread(target=send, args=(outbox, channel)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    assert channel.taken == ["warning: user u"]


def test_another_process_that_sends_is_not_waited_for_for_ever(outbox: Outbox) -> None:
    with outbox.held(0), pytest.raises(OutboxError, match="another process has sent messages"):
        send_alerts(outbox, [], lambda: FOUND, lambda: 0.0, wait=0)


def test_after_the_time_that_there_is_nothing_is_begun_and_nothing_lost(outbox: Outbox) -> None:
    channel = Fake()
    _, sent = send_alerts(outbox, [channel], lambda: FOUND, lambda: 0.0, until=0.0)
    assert (channel.taken, sent.waiting) == ([], {"fake": 1})
    send(outbox, channel)
    assert channel.taken == ["warning: user u"]


def test_what_waits_for_a_channel_is_kept_while_it_is_not_set(outbox: Outbox) -> None:
    old, new = Fake("old", error=ChannelError("gone")), Fake("new")
    send(outbox, old)
    assert send(outbox, new).waiting == {}
    old.error = None
    send(outbox, old, new)
    assert (old.taken, new.taken) == (["warning: user u"], [])


def test_what_would_be_sent_is_shown_and_changes_nothing(outbox: Outbox) -> None:
    good, bad = Fake("good"), Fake("bad", error=ChannelError("down"))

    def pending(found: Found, *channels: Fake) -> list[tuple[str, tuple[str, ...]]]:
        shown = pending_alerts(outbox, channels, found, 0)
        return [(one.message.title, one.channels) for one in shown]

    assert pending(FOUND) == [("warning: user u", ())]
    assert not outbox.path.parent.exists()
    send(outbox, good, bad)
    assert pending(FOUND, good, bad) == [("warning: user u", ("bad",))]
    assert pending(FOUND, good) == []
    ended = ("ended: user u", ("good", "bad"))
    assert pending(NOTHING, good, bad) == [("warning: user u", ("bad",)), ended]
    assert [one.message for one in pending_digest(outbox, [good], DIGEST)] == [DIGEST]
    send_digest(outbox, [good], lambda: DIGEST)
    assert pending_digest(outbox, [good], DIGEST) == []


def test_a_message_that_a_channel_refuses_does_not_hold_up_those_behind_it(outbox: Outbox) -> None:
    channel = Fake(error=RefusedError("invalid_blocks"))
    send(outbox, channel)
    channel.refused, channel.error = "warning: user u", None
    sent = send(outbox, channel, found=NOTHING)
    assert channel.taken == ["ended: user u"]
    assert (sent.failures, sent.waiting) == (["fake: refused"], {"fake": 1})


def test_a_message_that_is_no_news_any_more_is_given_up_and_that_is_said_once(
    outbox: Outbox,
) -> None:
    """One that is refused for ever would fail every evaluation, and one for a channel that is not
    set any more would come when it is set again."""
    slack, mail = Fake("slack", error=RefusedError("invalid_blocks")), Fake("mail")
    mail.error = ChannelError("down")
    send(outbox, slack, mail)
    assert send(outbox, slack, day=LONGEST_DAYS).waiting == {"slack": 1}
    later = LONGEST_DAYS + 0.1
    assert pending_alerts(outbox, [slack, mail], FOUND, later * DAY) == []
    sent = send(outbox, slack, day=later)
    assert (sent.failures, sent.waiting) == ([], {})
    assert sent.notes == [
        "not taken by slack and mail, and given up after 14 days: 'warning: user u' of 1970-01-01"
    ]
    slack.error = mail.error = None
    assert send(outbox, slack, mail, found=NOTHING, day=later).notes == []
    assert slack.taken == mail.taken == ["ended: user u"]


def test_a_digest_gives_up_too_what_waited_for_too_long(outbox: Outbox) -> None:
    send(outbox, Fake(error=ChannelError("down")))
    later = structs.replace(DIGEST, made_at=(LONGEST_DAYS + 1) * DAY)
    channel = Fake()
    assert [one.message for one in pending_digest(outbox, [channel], later)] == [later]
    sent = send_digest(outbox, [channel], lambda: later)
    assert sent is not None
    assert [note.partition(",")[0] for note in sent.notes] == ["not taken by fake"]
    assert channel.taken == ["Usage"]


def test_a_digest_is_sent_once_a_week(outbox: Outbox) -> None:
    channel = Fake(error=ChannelError("down"))
    sent = send_digest(outbox, [channel], lambda: DIGEST)
    assert sent is not None
    assert sent.failures == ["fake: down"]
    channel.error = None
    sent = send_digest(outbox, [channel], lambda: DIGEST)
    assert sent is not None
    assert send_digest(outbox, [channel], lambda: DIGEST) is None
    assert channel.taken == ["Usage"]


def test_the_state_is_its_owners_alone(outbox: Outbox) -> None:
    send(outbox, Fake())
    assert outbox.path.stat().st_mode & 0o777 == 0o600
    assert outbox.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[]", b'{"open": 7}'])
def test_a_state_that_is_none_is_one_line(outbox: Outbox, content: bytes) -> None:
    send(outbox, Fake())
    outbox.path.write_bytes(content)
    with pytest.raises(OutboxError, match="is not what was written") as caught:
        send(outbox, Fake())
    assert "\n" not in str(caught.value)
    assert "remove it" in str(caught.value)
