"""Lists as plain Python lists that somebody keeps changing, also while they are read.

Belongs here: a listing of conversations by last update, and a list of items or responses, as
docs/api.md describes them. Shares no code with the emulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pipeline.api import (
    Conversation,
    ConversationsQuery,
    Item,
    ItemsQuery,
    Refused,
    Response,
    ResponsesQuery,
)
from pipeline.api.client import Answer
from pipeline.api.fields import ListPage
from pipeline.api.list_walk import ListWalk

Unknown = int | Literal["beginning", "empty"]
"""What a cursor that is not in the list brings: a status, the list's beginning, or no row."""


@dataclass
class MovingList:
    """Newest update last. `meddle` is called before each answer, with the cursor asked for."""

    rows: list[str]
    meddle: Callable[[str | None], None] = lambda cursor: None
    clamp: int = 50
    unknown: Unknown = 400
    requests: int = 0
    versions: dict[str, int] = field(default_factory=dict[str, int])

    def touch(self, name: str) -> None:
        """Move a row to the newest end, and change what it says."""
        if name in self.rows:
            self.rows.remove(name)
            self.rows.append(name)
            self.versions[name] = self.versions.get(name, 0) + 1

    def create(self, name: str) -> None:
        """Add a new row."""
        self.rows.append(name)

    def remove(self, name: str) -> None:
        """Let a row vanish."""
        if name in self.rows:
            self.rows.remove(name)

    async def fetch(self, query: ConversationsQuery) -> Answer[ListPage[Conversation]]:
        """One page, as the API would answer it at this moment."""
        self.requests += 1
        self.meddle(query.after)
        rows = self.rows if query.order == "asc" else self.rows[::-1]
        if query.after in rows:
            rows = rows[rows.index(query.after) + 1 :]
        elif query.after is not None:
            if isinstance(self.unknown, int):
                raise Refused("unknown cursor", self.unknown)
            rows = rows if self.unknown == "beginning" else []
        limit = min(query.limit, self.clamp)
        page = [
            Conversation(name, 0.0, metadata=str(self.versions.get(name, 0)))
            for name in rows[:limit]
        ]
        return Answer(ListPage(page, len(rows) > limit), 0, 0.0)


@dataclass
class GrowingList:
    """Items or responses: rows are added at the end and may vanish; the others keep their order.

    `meddle` is called before each answer, with the cursor asked for.
    """

    rows: list[str]
    limit: int = 100
    unknown: Unknown = 400
    says_more: bool = True
    meddle: Callable[[str | None], None] = lambda cursor: None
    asked: list[str | None] = field(default_factory=list[str | None])
    unknown_asked: int = 0
    """How often a cursor was asked for that is not in the list."""

    def place(self, cursor: str | None) -> int | None:
        """The place of a cursor's row, from the oldest on; None where there is no such row."""
        return self.rows.index(cursor) if cursor in self.rows else None

    def _page(self, query: ItemsQuery | ResponsesQuery) -> tuple[list[str], bool | None]:
        self.asked.append(query.after)
        assert len(self.asked) < 10_000, "the walk has no end"
        self.meddle(query.after)
        rows = self.rows if query.order == "asc" else self.rows[::-1]
        place = self.place(query.after)
        if place is not None:
            rows = rows[place + 1 :] if query.order == "asc" else rows[len(rows) - place :]
        elif query.after is not None:
            self.unknown_asked += 1
            if isinstance(self.unknown, int):
                raise Refused(f"{self.unknown}: unknown cursor", self.unknown)
            rows = rows if self.unknown == "beginning" else []
        limit = min(query.limit, self.limit)
        return rows[:limit], len(rows) > limit if self.says_more else None

    async def items(self, query: ItemsQuery) -> Answer[ListPage[Item]]:
        """Endpoint 3."""
        rows, more = self._page(query)
        return Answer(ListPage([Item(row, None, "message") for row in rows], more), 0, 0.0)

    async def responses(self, query: ResponsesQuery) -> Answer[ListPage[Response]]:
        """Endpoint 5."""
        rows, more = self._page(query)
        return Answer(ListPage([Response(row, 0.0, "completed") for row in rows], more), 0, 0.0)

    def walk(self, kind: str = "items", after: str | None = None) -> Walked:
        """Walk the list to its end, as one of items or of responses."""

        async def read() -> Walked:
            if kind == "items":
                items = ListWalk(self.items, ItemsQuery("c", after=after))
                rows = [row.id async for page in items.pages() for row in page]
                return Walked(rows, items.order, items.cursor, items.whole)
            responses = ListWalk(self.responses, ResponsesQuery(after=after))
            rows = [row.id async for page in responses.pages() for row in page]
            return Walked(rows, responses.order, responses.cursor, responses.whole)

        return asyncio.run(read())


@dataclass(frozen=True)
class Walked:
    """What a walk returned, and what it says of it."""

    rows: list[str]
    order: list[str]
    cursor: str | None
    whole: bool
