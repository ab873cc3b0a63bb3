"""What a channel is, and how it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.notify.message import Message


class ChannelError(Exception):
    """A channel has not taken a message. The message is one line without a secret."""


class RefusedError(ChannelError):
    """The channel can be reached, and does not take this message: it may take others."""


class Channel(Protocol):
    """Where messages go."""

    @property
    def name(self) -> str:
        """What it is called in output and in the outbox."""

    @property
    def where(self) -> str:
        """Its receivers in a few words, without a secret."""

    def send(self, message: Message) -> Sequence[str]:
        """Hand a message over; returns what a person should know all the same.

        ChannelError where it was not taken.
        """
