"""The emulator's state, and the truth that tests compare with.

Belongs here: what API calls do to the state, who owns what, and what all of it looks like as of the
world's clock. Every method may be called while a server is answering from the same world. All times
are Unix seconds, UTC.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from threading import RLock
from typing import Any

from pipeline.emulator.archive import Archive
from pipeline.emulator.counting import JsonObject, UsageLedger, width_of, window_edges
from pipeline.emulator.events import DEFAULT_KEYS, Event
from pipeline.emulator.state import Conversation, Item, Owner, Response, Tokens

DEFAULT_MODEL = "meetkai:functionary-pt"


class World:
    """One organisation's conversations, items, responses and usage, as of `clock()`.

    `keys` are the API key ids that a server gives a secret each; events and conversations may carry
    others, or none. Nothing later than the clock is listed or counted.
    """

    def __init__(
        self, *, keys: Sequence[str] = DEFAULT_KEYS, clock: Callable[[], float] = time.time
    ) -> None:
        self.keys = tuple(keys)
        self.clock = clock
        self._lock = RLock()
        self._ledger = UsageLedger()
        self._archive = Archive()
        self._users: set[str] = set()
        self._numbers: dict[str, int] = {}

    @classmethod
    def from_events(
        cls,
        events: Iterable[Event],
        *,
        keys: Sequence[str] = DEFAULT_KEYS,
        clock: Callable[[], float] = time.time,
    ) -> "World":
        """A world that has usage only: no conversations, items or responses to list."""
        world = cls(keys=keys, clock=clock)
        for event in events:
            world.log(event)
        return world

    # What calls do

    def log(self, event: Event) -> None:
        """Count an event, and nothing else: the way to log plain reads."""
        with self._lock:
            self._ledger.log.append(event)
            if event.user_id is not None:
                self._users.add(event.user_id)

    def create_conversation(
        self,
        at: float | None = None,
        user_id: str | None = None,
        api_key_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        *,
        conversation_id: str | None = None,
        visible_at: float | None = None,
    ) -> str:
        """Create a conversation at `at` (now by default), one operation, and return its id.

        Raises ValueError when `conversation_id` is given and taken.
        """
        with self._lock:
            at = self.clock() if at is None else at
            conversation_id = conversation_id or self._new_id("conv")
            owner = (api_key_id, user_id)
            self._archive.add_conversation(Conversation(conversation_id, at, owner, metadata))
            self.log(Event(at, user_id, api_key_id, 1, 0, 1, visible_at))
            self.touch(conversation_id, at)
            return conversation_id

    def add_items(
        self,
        conversation_id: str,
        items: Sequence[Mapping[str, Any]],
        at: float | None = None,
        *,
        visible_at: float | None = None,
    ) -> list[str]:
        """Add items that no response made (endpoint 4), one operation, and return their ids.

        `items` are JSON objects of any type, known to clients or not; an `id` or `response_id` in
        one is replaced. Raises KeyError for an unknown conversation.
        """
        with self._lock:
            at = self.clock() if at is None else at
            added = self._append(conversation_id, items, at, None)
            self._count(conversation_id, Event(at, None, None, 0, len(added), 1, visible_at))
            return [item.id for item in added]

    def add_response(
        self,
        conversation_id: str | None,
        at: float | None = None,
        items: Sequence[Mapping[str, Any]] = (),
        *,
        tokens: Tokens = Tokens(),  # noqa: B008  # frozen, so sharing it is safe
        status: str = "completed",
        finished_at: float | None = None,
        model: str = DEFAULT_MODEL,
        metadata: Mapping[str, str] | None = None,
        owner: Owner = (None, None),
        visible_at: float | None = None,
    ) -> str:
        """Create a response with the items of its turn, one operation in all, and return its id.

        The items count at `at`, the response's `created_at`. Until `finished_at` (`at` by default)
        the response is listed as `in_progress`. `owner` (API key id, user id) is read only for a
        response without a conversation. Raises KeyError for an unknown conversation.
        """
        with self._lock:
            at = self.clock() if at is None else at
            response_id = self._new_id("resp")
            previous, made = None, list[Item]()
            if conversation_id is None:
                self.log(Event(at, owner[1], owner[0], 0, 0, 1, visible_at))
            else:
                conversation = self._archive.conversations[conversation_id]
                owner, previous = conversation.owner, conversation.last_response_id
                conversation.last_response_id = response_id
                made = self._append(conversation_id, items, at, response_id)
                self._count(conversation_id, Event(at, None, None, 0, len(made), 1, visible_at))
            response = Response(
                id=response_id,
                number=self._numbers["resp"],
                created_at=at,
                finished_at=at if finished_at is None else finished_at,
                status=status,
                owner=owner,
                conversation_id=conversation_id,
                previous_response_id=previous,
                model=model,
                tokens=tokens,
                metadata=metadata or {},
                output=tuple(item for item in made if item.body.get("role") != "user"),
            )
            self._archive.add_response(response)
            return response_id

    def touch(self, conversation_id: str, at: float | None = None) -> None:
        """Update a conversation at `at` (now by default): it moves to the end of the update order.

        Counts nothing. Raises KeyError for an unknown conversation.
        """
        with self._lock:
            at = self.clock() if at is None else at
            conversation = self._archive.conversations[conversation_id]
            self._archive.updated(conversation, (at, self._next_number("update")))

    def delete_conversation(self, conversation_id: str, at: float | None = None) -> None:
        """Soft-delete a conversation, one operation: it stays listed, with `deleted_at`."""
        with self._lock:
            at = self.clock() if at is None else at
            self._archive.conversations[conversation_id].deleted_at = at
            self.touch(conversation_id, at)
            self._count(conversation_id, Event(at, None, None, 0, 0, 1))

    def remove_item(self, conversation_id: str, item_id: str) -> None:
        """Remove an item for good. Counts nothing: that it was added stays counted.

        Raises KeyError for an unknown conversation or item.
        """
        with self._lock:
            items = self._archive.conversations[conversation_id].items
            found = next((item for item in items if item.id == item_id), None)
            if found is None:
                raise KeyError(item_id)
            items.remove(found)

    def remove_response(self, response_id: str) -> None:
        """Remove a response for good, and leave its items. Counts nothing.

        Raises KeyError for an unknown response.
        """
        with self._lock:
            self._archive.remove_response(response_id)

    def tell_created_at(self, conversation_id: str, created_at: float) -> None:
        """Say another time of creation of a conversation from now on, which updates it.

        Counts nothing: it stays counted when it was created. Raises KeyError for an unknown one.
        """
        with self._lock:
            self._archive.conversations[conversation_id].created_at = created_at
            self.touch(conversation_id)

    def finish_response(self, response_id: str, created_at: float) -> None:
        """End a response now, whose time of creation is told as `created_at` from now on.

        Counts nothing. Raises KeyError for an unknown response.
        """
        with self._lock:
            response = self._archive.remove_response(response_id)
            told = replace(response, created_at=created_at, finished_at=self.clock())
            self._archive.add_response(told)

    def restate(
        self,
        minute_start: float,
        user_id: str | None,
        api_key_id: str | None,
        *,
        conversations_created: int = 0,
        items_added: int = 0,
        operations: int = 0,
        drop: bool = False,
    ) -> None:
        """Change what the usage endpoint reports for one minute, user and key, from now on.

        The three numbers are added to what is reported now, and may be negative; `drop` takes the
        row away instead. Any moment of the minute names it. Hours and days change with it. Raises
        ValueError when a number would fall below 0.
        """
        with self._lock:
            minute = int(minute_start // 60) * 60
            change = None if drop else (conversations_created, items_added, operations)
            self._ledger.restate(minute, (user_id, api_key_id), change, self.clock())

    # What can be asked

    def usage(
        self,
        start_time: int,
        end_time: int | None = None,
        bucket_width: str = "1d",
        group_by: Sequence[str] = (),
        user_ids: Iterable[str] | None = None,
    ) -> list[JsonObject]:
        """All buckets of the window, oldest first, in endpoint 1's shape; empty ones too.

        `start_time` is floored to its bucket's edge and `end_time` (now by default) raised to one.
        `user_ids` filters before grouping; None means everyone. Raises ValueError for an unknown
        width or grouping.
        """
        width = width_of(bucket_width)
        end_time = int(self.clock() // 1) + 1 if end_time is None else end_time
        start, end = window_edges(start_time, end_time, width)
        return self.usage_buckets(range(start, end, width), width, group_by, user_ids)

    def usage_buckets(
        self,
        starts: Iterable[int],
        width: int,
        group_by: Sequence[str] = (),
        user_ids: Iterable[str] | None = None,
    ) -> list[JsonObject]:
        """The buckets of `width` seconds that start at `starts`, in that order."""
        users = None if user_ids is None else frozenset(user_ids)
        with self._lock:
            self._ledger.settle(self.clock())
            return self._ledger.buckets(starts, width, group_by, users)

    def occupied(self, start: int, end: int, width: int) -> list[int]:
        """Starts of the buckets in [start, end) that anything has ever been counted in."""
        with self._lock:
            self._ledger.settle(self.clock())
            return self._ledger.starts(width, start, end)

    def events(self) -> list[Event]:
        """The event log, in the order logged, whether counted yet or not."""
        with self._lock:
            return [entry for entry in self._ledger.log if isinstance(entry, Event)]

    def users(self) -> list[str]:
        """All user ids that the world knows of, by code point."""
        with self._lock:
            return sorted(self._users)

    def knows_user(self, user_id: str) -> bool:
        """Whether any event carries this user id."""
        return user_id in self._users

    def conversation(self, conversation_id: str) -> Conversation | None:
        """The conversation of that id, if it has been created by now."""
        return self._archive.conversation(conversation_id, self.clock())

    def conversations_of(self, owner: Owner) -> list[Conversation]:
        """The conversations of (API key id, user id) by last update, the oldest first."""
        with self._lock:
            return self._archive.conversations_of(owner, self.clock())

    def conversations_beside(
        self, owner: Owner, conversation_id: str
    ) -> tuple[list[Conversation], list[Conversation]] | None:
        """The same list in two, before and after that conversation; None when it isn't there."""
        with self._lock:
            return self._archive.conversations_beside(owner, conversation_id, self.clock())

    def owners(self) -> list[Owner]:
        """Each (API key id, user id) that has conversations or responses, later ones too."""
        with self._lock:
            return sorted(self._archive.owners(), key=str)

    def all_conversations(self) -> list[Conversation]:
        """Every conversation of every owner, in the order they were made, later ones too."""
        with self._lock:
            return list(self._archive.conversations.values())

    def responses_of(self, owner: Owner) -> list[Response]:
        """The responses of (API key id, user id) by creation, the oldest first."""
        with self._lock:
            return self._archive.responses_of(owner, self.clock())

    def all_responses(self) -> list[Response]:
        """Every response of every owner, in the order they were made, later ones too."""
        with self._lock:
            return list(self._archive.responses)

    # How it is kept

    def _append(
        self,
        conversation_id: str,
        bodies: Sequence[Mapping[str, Any]],
        at: float,
        response_id: str | None,
    ) -> list[Item]:
        conversation = self._archive.conversations[conversation_id]
        added = [Item(self._new_id("item"), at, response_id, dict(body)) for body in bodies]
        conversation.append(added)
        self.touch(conversation_id, at)
        return added

    def _count(self, conversation_id: str, event: Event) -> None:
        """Log `event` under the owner of the conversation."""
        key, user = self._archive.conversations[conversation_id].owner
        self.log(Event(event.at, user, key, *event.measures, event.visible_at))

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._next_number(prefix):08x}"

    def _next_number(self, name: str) -> int:
        self._numbers[name] = number = self._numbers.get(name, 0) + 1
        return number
