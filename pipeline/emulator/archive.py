"""Where conversations and responses are kept: by id, and by owner in listing order.

Belongs here: finding records as of a moment. Does not: making or changing them (`world`), or pages
of them (`listings`). It has no lock of its own: the world holds one around every call.
"""

from pipeline.emulator.state import Conversation, Owner, Response


class Archive:
    """All records of a world. Times are Unix seconds, UTC."""

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}
        self.responses: list[Response] = []
        self._conversations_of: dict[Owner, list[Conversation]] = {}
        self._responses_of: dict[Owner, list[Response]] = {}

    def add_conversation(self, conversation: Conversation) -> None:
        """Keep a new conversation. Raises ValueError when its id is taken."""
        if conversation.id in self.conversations:
            raise ValueError(f"there already is a conversation {conversation.id!r}")
        self.conversations[conversation.id] = conversation
        self._conversations_of.setdefault(conversation.owner, []).append(conversation)

    def add_response(self, response: Response) -> None:
        """Keep a new response."""
        self.responses.append(response)
        self._responses_of.setdefault(response.owner, []).append(response)

    def conversation(self, conversation_id: str, now: float) -> Conversation | None:
        """The conversation of that id, if it had been created by `now`."""
        found = self.conversations.get(conversation_id)
        return found if found is not None and found.created_at <= now else None

    def conversations_of(self, owner: Owner, now: float) -> list[Conversation]:
        """The owner's conversations at `now` by last update, the oldest first."""
        there = [c for c in self._conversations_of.get(owner, []) if c.created_at <= now]
        return sorted(there, key=lambda conversation: conversation.position(now))

    def responses_of(self, owner: Owner, now: float) -> list[Response]:
        """The owner's responses at `now` by creation, the oldest first."""
        there = [r for r in self._responses_of.get(owner, []) if r.created_at <= now]
        return sorted(there, key=lambda response: (response.created_at, response.number))
