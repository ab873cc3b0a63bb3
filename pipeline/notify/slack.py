"""Slack's incoming webhook: blocks, and a text for notifications."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from pydantic import SecretStr

from pipeline.notify.message import Message, Part, Tone
from pipeline.notify.posting import host_of, post

_SIGNS: Final[dict[Tone, str]] = {
    "error": ":red_circle: ",
    "warning": ":large_yellow_circle: ",
    "ended": ":large_green_circle: ",
    "plain": "",
}
_LONGEST_HEADER: Final = 150
_LONGEST: Final = 2_900
"""Characters of a block: Slack takes 3,000 and refuses the message that has one more."""


@dataclass(frozen=True, slots=True)
class Slack:
    """A channel of Slack."""

    url: SecretStr
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    name: str = "slack"

    @property
    def where(self) -> str:
        """The host of the webhook."""
        return host_of(self.url)

    def send(self, message: Message) -> Sequence[str]:
        """Post it; ChannelError where Slack does not take it."""
        post(self.url, msgspec.json.encode(payload(message)), {}, sleep=self.sleep)
        return ()


def payload(message: Message) -> dict[str, Any]:
    """The message as Slack takes it.

    Sentences are plain text, in which nothing that an id holds means anything to Slack: no mention,
    no link, no bold.
    """
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(message.title, _LONGEST_HEADER)}
    ]
    for part in message.parts:
        blocks += _blocks(part)
    return {"text": _escaped(_in_short(message), _LONGEST), "blocks": blocks}


def _in_short(message: Message) -> str:
    """What a phone shows: the title, and what is worst where that does not say it."""
    first = next((line for part in message.parts for line in part.lines), "")
    return message.title if first in message.title else f"{message.title}: {first}"


def _blocks(part: Part) -> list[dict[str, Any]]:
    heading = f"{_SIGNS[part.tone]}*{_escaped(part.heading, _LONGEST)}*"
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": heading}}]
    if part.lines:
        blocks.append({"type": "section", "text": _plain("\n".join(part.lines), _LONGEST)})
    if part.command:
        # Three backticks would end the block of code: a command that has them is cut there.
        command = _escaped(part.command.partition("```")[0], _LONGEST - 6)
        text = {"type": "mrkdwn", "text": f"```{command}```"}
        blocks.append({"type": "section", "text": text})
    return blocks


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": _cut(text, most), "emoji": False}


def _escaped(text: str, most: int) -> str:
    """As Slack wants the three characters written that it reads itself."""
    written = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(written) <= most:
        return written
    return _escaped(text[: len(text) * most // len(written) - 1], most) + "…"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
