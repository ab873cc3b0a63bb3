"""Where conversations and responses are kept: by id, and by owner in listing order.

Belongs here: finding records as of a moment. It has no lock of its own: the world holds one around
every call.
"""

import sys
from bisect import bisect_right, insort

from pipeline.emulator.state import Conversation, Owner, Position, Response
from pipeline.emulator.update_order import UpdateOrder


class Archive:
    """All records of a world. Times are Unix seconds, UTC."""

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}
        self.responses: list[Response] = []
        self._order_of: dict[Owner, UpdateOrder] = {}
        self._responses_of: dict[Owner, list[Response]] = {}

    def add_conversation(self, conversation: Conversation) -> None:
        """Keep a new conversation. Raises ValueError when its id is taken."""
        if conversation.id in self.conversations:
            raise ValueError(f"there already is a conversation {conversation.id!r}")
        self.conversations[conversation.id] = conversation
        self._order_of.setdefault(conversation.owner, UpdateOrder()).add(conversation)

    def updated(self, conversation: Conversation, position: Position) -> None:
        """Note an update of a conversation that is kept here."""
        conversation.updated(position)
        self._order_of[conversation.owner].updated(conversation, position)

    def add_response(self, response: Response) -> None:
        """Keep a new response."""
        self.responses.append(response)
        insort(self._responses_of.setdefault(response.owner, []), response, key=_by_creation)

    def remove_response(self, response_id: str) -> Response:
        """Forget a response, and return it. Raises KeyError for an unknown one."""
        found = next((one for one in self.responses if one.id == response_id), None)
        if found is None:
            raise KeyError(response_id)
        self.responses.remove(found)
        self._responses_of[found.owner].remove(found)
        return found

    def owners(self) -> set[Owner]:
        """All that have a conversation or a response."""
        return {*self._order_of, *self._responses_of}

    def conversation(self, conversation_id: str, now: float) -> Conversation | None:
        """The conversation of that id, if it had been created by `now`."""
        found = self.conversations.get(conversation_id)
        return found if found is not None and found.created_at <= now else None

    def conversations_of(self, owner: Owner, now: float) -> list[Conversation]:
        """The owner's conversations at `now` by last update, the oldest first."""
        order = self._order_of.get(owner)
        return [] if order is None else order.at(now).copy()

    def conversations_beside(
        self, owner: Owner, conversation_id: str, now: float
    ) -> tuple[list[Conversation], list[Conversation]] | None:
        """The owner's conversations before and after that one, or None when it isn't among them."""
        order = self._order_of.get(owner)
        place = None if order is None else order.place(conversation_id, now)
        if order is None or place is None:
            return None
        rows = order.at(now)
        return rows[:place], rows[place + 1 :]

    def responses_of(self, owner: Owner, now: float) -> list[Response]:
        """The owner's responses at `now` by creation, the oldest first."""
        rows = self._responses_of.get(owner, [])
        return rows[: bisect_right(rows, (now, sys.maxsize), key=_by_creation)]


def _by_creation(response: Response) -> tuple[float, int]:
    return response.created_at, response.number
