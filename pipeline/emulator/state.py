"""What API calls leave behind: conversations, their items, and responses.

All times are Unix seconds, UTC.
"""

import sys
from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

Owner: TypeAlias = tuple[str | None, str | None]
"""(api_key_id, user_id): whose listing a conversation or response is in."""
Position: TypeAlias = tuple[float, int]
"""Where a conversation stands in update order: the time of an update, then its number."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a conversation. `body` is its JSON without `id` and `response_id`."""

    id: str
    at: float
    response_id: str | None
    body: Mapping[str, Any]

    @property
    def text(self) -> str:
        """All the words in the item, for `search`."""
        return " ".join(_words(self.body))


def _words(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            parts = cast("dict[str, object]", value).values()
            return [word for part in parts for word in _words(part)]
        case list():
            return [word for part in cast("list[object]", value) for word in _words(part)]
        case _:
            return []


def _time_of(item: Item) -> float:
    return item.at


@dataclass(slots=True)
class Conversation:
    """A conversation, with its items and the history of its updates, both kept sorted by time."""

    id: str
    created_at: float
    owner: Owner
    metadata: Mapping[str, str] | None
    deleted_at: float | None = None
    items: list[Item] = field(default_factory=list[Item])
    updates: list[Position] = field(default_factory=list[Position])
    last_response_id: str | None = None

    def updated(self, position: Position) -> None:
        """Note an update."""
        insort(self.updates, position)

    def updated_at(self, now: float) -> Position:
        """Its last update at `now`, when it must have been there."""
        return self.updates[bisect_right(self.updates, (now, sys.maxsize)) - 1]

    def append(self, items: Iterable[Item]) -> None:
        """Take in items, each behind those of its own moment and before."""
        for item in items:
            insort(self.items, item, key=_time_of)

    def items_at(self, now: float) -> list[Item]:
        """The items that were there at `now`, in the order they were added."""
        return self.items[: bisect_right(self.items, now, key=_time_of)]

    def is_deleted(self, now: float) -> bool:
        """Whether the conversation was soft-deleted at `now`."""
        return self.deleted_at is not None and self.deleted_at <= now


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of a response; `cached` is part of `input`, `reasoning` part of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """A response. Until `finished_at` its status reads `in_progress`, afterwards `status`."""

    id: str
    number: int
    created_at: float
    finished_at: float
    status: str
    owner: Owner
    conversation_id: str | None
    previous_response_id: str | None
    model: str
    tokens: Tokens
    metadata: Mapping[str, str]
    output: tuple[Item, ...]
    background: bool = False

    def is_finished(self, now: float) -> bool:
        """Whether the response had reached its final status at `now`."""
        return self.finished_at <= now
