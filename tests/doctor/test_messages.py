"""Channels and what they have not taken are named; nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.notify.message import Message
from pipeline.notify.outbox import Outbox, State, Waiting
from tests.doctor.conftest import Look, told

MESSAGE = Message("1", "alerts", "title", 1_704_067_200, (), {})
SECRET = "planted-5ec2e7"


def test_without_a_channel_there_is_nothing_to_look_at(look: Look) -> None:
    assert told(look("messages")) == "skipped messages: no channel is set: alerts are not sent -> "


def test_a_channel_is_named_without_its_secret(place: pytest.MonkeyPatch, look: Look) -> None:
    place.setenv("MKA1_USAGE_SLACK_WEBHOOK", f"https://hooks.slack.com/services/{SECRET}")
    assert told(look("messages")) == "ok messages: slack (https://hooks.slack.com) -> "


def test_what_a_channel_has_not_taken_is_a_warning(
    place: pytest.MonkeyPatch, look: Look, tmp_path: Path
) -> None:
    place.setenv("MKA1_USAGE_SLACK_WEBHOOK", f"https://hooks.slack.com/services/{SECRET}")
    outbox = Outbox(tmp_path / "home")
    with outbox.held(0):
        outbox.save(State(waiting=[Waiting(MESSAGE, ("slack",)), Waiting(MESSAGE, ("slack",))]))
    assert told(look("messages")) == (
        "warning slack: 2 messages are waiting for it since 2024-01-01T00:00:00Z -> run "
        "`mka1-usage alerts --send`: it sends them, or says why it can't"
    )
    outbox.path.write_bytes(b"no JSON")
    assert told(look("messages")).startswith("failed messages: home/messages/state.json is not")
