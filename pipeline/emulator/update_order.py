"""One owner's conversations by last update: the order of endpoint 2 and the places in it.

It has no lock of its own: the archive holds one.
"""

from bisect import bisect_left, bisect_right
from heapq import heapify, heappop, heappush

from pipeline.emulator.state import Conversation, Position


class UpdateOrder:
    """Conversations as of a moment, the least recently updated first. Times are Unix seconds, UTC.

    Updates that lie ahead wait; asking for a later moment takes in those that have come due, each
    by one removal and one insertion, so that a page needs no sorting. Asking for an earlier moment
    starts over from the conversations' histories: what is answered depends on the time alone.
    """

    def __init__(self) -> None:
        self._everyone: list[Conversation] = []
        self._ahead: list[tuple[Position, Conversation]] = []
        self._as_of = float("-inf")
        self._positions: list[Position] = []
        self._rows: list[Conversation] = []
        self._position_of: dict[str, Position] = {}

    def add(self, conversation: Conversation) -> None:
        """Take in a conversation; its first update, its creation, is yet to be noted."""
        self._everyone.append(conversation)

    def updated(self, conversation: Conversation, position: Position) -> None:
        """Note an update, past or to come, of a conversation that was added."""
        heappush(self._ahead, (position, conversation))

    def at(self, now: float) -> list[Conversation]:
        """The order at `now`. It is not a copy: read it before anything else is asked or done."""
        if now < self._as_of:
            self._start_over()
        self._as_of = now
        while self._ahead and self._ahead[0][0][0] <= now:
            position, conversation = heappop(self._ahead)
            # One that is touched before it is made is not there yet.
            if conversation.created_at <= now:
                self._move(conversation, position)
        return self._rows

    def place(self, conversation_id: str, now: float) -> int | None:
        """Where that conversation stands in `at(now)`; None when it isn't there."""
        self.at(now)
        position = self._position_of.get(conversation_id)
        return None if position is None else bisect_left(self._positions, position)

    def _move(self, conversation: Conversation, position: Position) -> None:
        before = self._position_of.get(conversation.id)
        if before is not None:
            if position < before:
                return  # an update noted late, older than the last one
            place = bisect_left(self._positions, before)
            del self._positions[place], self._rows[place]
        place = bisect_right(self._positions, position)
        self._positions.insert(place, position)
        self._rows.insert(place, conversation)
        self._position_of[conversation.id] = position

    def _start_over(self) -> None:
        self._positions, self._rows, self._position_of = [], [], {}
        self._ahead = [(update, one) for one in self._everyone for update in one.updates]
        heapify(self._ahead)
