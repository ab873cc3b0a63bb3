"""A list of conversations by last update, as a plain Python list that somebody keeps touching.

Belongs here: the listing as API.md describes it. Shares no code with the emulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.api import Answer, Conversation, ConversationPage, ConversationsQuery, Refused


@dataclass
class MovingList:
    """Newest update last. `meddle` is called before each answer, with the cursor asked for."""

    rows: list[str]
    meddle: Callable[[str | None], None] = lambda cursor: None
    clamp: int = 50
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

    async def fetch(self, query: ConversationsQuery) -> Answer[ConversationPage]:
        """One page, as the API would answer it at this moment."""
        self.requests += 1
        self.meddle(query.after)
        rows = self.rows if query.order == "asc" else self.rows[::-1]
        if query.after is not None:
            if query.after not in rows:
                raise Refused("unknown cursor", 400)
            rows = rows[rows.index(query.after) + 1 :]
        limit = min(query.limit, self.clamp)
        page = [
            Conversation(name, 0.0, metadata=str(self.versions.get(name, 0)))
            for name in rows[:limit]
        ]
        return Answer(ConversationPage(page, len(rows) > limit), 0, 0.0)
