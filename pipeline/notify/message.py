"""What a message says, whatever channel it goes to, and as the outbox keeps it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["alerts", "digest"]
Tone = Literal["error", "warning", "ended", "plain"]


class Part(msgspec.Struct, frozen=True):
    """A piece of a message: a heading, sentences or lines below it, and a command that helps."""

    heading: str
    lines: tuple[str, ...] = ()
    command: str = ""
    tone: Tone = "plain"


class Message(msgspec.Struct, frozen=True):
    """`id` is the same however often it is sent; `made_at` is in Unix seconds.

    `data` says the same as `parts`, for programs.
    """

    id: str
    kind: Kind
    title: str
    made_at: int
    parts: tuple[Part, ...]
    data: dict[str, Any]
