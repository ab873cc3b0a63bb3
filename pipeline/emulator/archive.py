"""Where conversations and responses are kept: by id, and by owner in listing order."""

import sys
from bisect import bisect_right, insort
from collections.abc import Callable

from pipeline.emulator.clock import AsOf
from pipeline.emulator.state import Conversation, Owner, Position, Response
from pipeline.emulator.update_order import UpdateOrder


class Archive(AsOf):
    """All conversations and responses of a world. Times are Unix seconds, UTC."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._conversations: dict[str, Conversation] = {}
        self._responses: list[Response] = []
        self._order_of: dict[Owner, UpdateOrder] = {}
        self._responses_of: dict[Owner, list[Response]] = {}

    def conversation(self, conversation_id: str) -> Conversation | None:
        """The conversation of that id, if it has been created by now."""
        found = self._conversations.get(conversation_id)
        return found if found is not None and found.created_at <= self.clock() else None

    def conversations_of(self, owner: Owner) -> list[Conversation]:
        """The conversations of (API key id, user id) by last update, the oldest first."""
        with self._lock:
            return self._order_of.get(owner, UpdateOrder()).at(self.clock()).copy()

    def conversations_beside(
        self, owner: Owner, conversation_id: str
    ) -> tuple[list[Conversation], list[Conversation]] | None:
        """The same list in two, before and after that conversation; None when it isn't there."""
        with self._lock:
            order, now = self._order_of.get(owner, UpdateOrder()), self.clock()
            place = order.place(conversation_id, now)
            if place is None:
                return None
            rows = order.at(now)
            return rows[:place], rows[place + 1 :]

    def all_conversations(self) -> list[Conversation]:
        """Every conversation of every owner, in the order they were made, later ones too."""
        with self._lock:
            return list(self._conversations.values())

    def responses_of(self, owner: Owner) -> list[Response]:
        """The responses of (API key id, user id) by creation, the oldest first."""
        with self._lock:
            rows = self._responses_of.get(owner, [])
            return rows[: bisect_right(rows, (self.clock(), sys.maxsize), key=_by_creation)]

    def all_responses(self) -> list[Response]:
        """Every response of every owner, in the order they were made, later ones too."""
        with self._lock:
            return list(self._responses)

    def owners(self) -> list[Owner]:
        """Each (API key id, user id) that has conversations or responses, later ones too."""
        with self._lock:
            return sorted({*self._order_of, *self._responses_of}, key=str)

    def remove_response(self, response_id: str) -> Response:
        """Remove a response for good, leave its items, and return it. Counts nothing.

        Raises KeyError for an unknown response.
        """
        with self._lock:
            found = next((one for one in self._responses if one.id == response_id), None)
            if found is None:
                raise KeyError(response_id)
            self._responses.remove(found)
            self._responses_of[found.owner].remove(found)
            return found

    def _add_conversation(self, conversation: Conversation) -> None:
        """Keep a new conversation. Raises ValueError when its id is taken."""
        if conversation.id in self._conversations:
            raise ValueError(f"there already is a conversation {conversation.id!r}")
        self._conversations[conversation.id] = conversation
        self._order_of.setdefault(conversation.owner, UpdateOrder()).add(conversation)

    def _updated(self, conversation: Conversation, position: Position) -> None:
        conversation.updated(position)
        self._order_of[conversation.owner].updated(conversation, position)

    def _add_response(self, response: Response) -> None:
        self._responses.append(response)
        insort(self._responses_of.setdefault(response.owner, []), response, key=_by_creation)


def _by_creation(response: Response) -> tuple[float, int]:
    return response.created_at, response.number
