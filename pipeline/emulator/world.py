"""What API calls do to the emulator's state. All times are Unix seconds, UTC."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.emulator.archive import Archive
from pipeline.emulator.billing import Billing
from pipeline.emulator.events import DEFAULT_KEYS, Event, MeterEvent
from pipeline.emulator.prices import CHAT_MODELS
from pipeline.emulator.state import Conversation, Item, Owner, Response, Tokens

DEFAULT_MODEL = CHAT_MODELS[0]


@dataclass(frozen=True, slots=True)
class _Counted:
    """A response as usage/responses counts it: at its creation, once it has finished."""

    response: Response
    visible_at: float | None

    @property
    def second(self) -> int:
        return math.floor(self.response.created_at)

    @property
    def counts_from(self) -> float:
        return max(self.response.finished_at, self.response.created_at, self.visible_at or 0.0)

    @property
    def group(self) -> tuple[str | bool | None, ...]:
        key, user = self.response.owner
        return user, key, self.response.model, self.response.background

    @property
    def counts(self) -> tuple[int, ...]:
        tokens = self.response.tokens
        return (
            *(1, tokens.input, tokens.cached, tokens.output, tokens.reasoning),
            tokens.input + tokens.output,
        )


class World(Archive, Billing):
    """One organisation's conversations, items, responses, usage and costs, as of `clock()`.

    `keys` are the API key ids that a server gives a secret each; events and conversations may carry
    others, or none. Nothing later than the clock is listed or counted.
    """

    def __init__(
        self, *, keys: Sequence[str] = DEFAULT_KEYS, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock)
        self.keys = tuple(keys)
        self._numbers: dict[str, int] = {}

    @classmethod
    def from_events(
        cls,
        events: Iterable[Event | MeterEvent],
        *,
        keys: Sequence[str] = DEFAULT_KEYS,
        clock: Callable[[], float] = time.time,
    ) -> "World":
        """A world that has usage only: no conversations, items or responses to list."""
        world = cls(keys=keys, clock=clock)
        for event in events:
            if isinstance(event, Event):
                world.log(event)
            else:
                world.log_meter(event)
        return world

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
            self._add_conversation(Conversation(conversation_id, at, owner, metadata))
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
            return [item.id for item in self._append(conversation_id, items, at, None, visible_at)]

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
        background: bool = False,
        metadata: Mapping[str, str] | None = None,
        owner: Owner = (None, None),
        visible_at: float | None = None,
    ) -> str:
        """Create a response with the items of its turn, one operation in all, and return its id.

        The items count at `at`, the response's `created_at`. Until `finished_at` (`at` by default)
        the response is listed as `in_progress`; from then on usage/responses counts it, at `at`.
        `owner` (API key id, user id) is read only for a response without a conversation. Raises
        KeyError for an unknown conversation.
        """
        with self._lock:
            at = self.clock() if at is None else at
            response_id = self._new_id("resp")
            previous, made = None, list[Item]()
            if conversation_id is None:
                self.log(Event(at, owner[1], owner[0], 0, 0, 1, visible_at))
            else:
                conversation = self._conversations[conversation_id]
                owner, previous = conversation.owner, conversation.last_response_id
                conversation.last_response_id = response_id
                made = self._append(conversation_id, items, at, response_id, visible_at)
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
                background=background,
            )
            self._add_response(response)
            self._ledgers["responses"].log.append(_Counted(response, visible_at))
            return response_id

    def touch(self, conversation_id: str, at: float | None = None) -> None:
        """Update a conversation at `at` (now by default): it moves to the end of the update order.

        Counts nothing. Raises KeyError for an unknown conversation.
        """
        with self._lock:
            at = self.clock() if at is None else at
            conversation = self._conversations[conversation_id]
            self._updated(conversation, (at, self._next_number("update")))

    def delete_conversation(self, conversation_id: str, at: float | None = None) -> None:
        """Soft-delete a conversation, one operation: it stays listed, with `deleted_at`."""
        with self._lock:
            at = self.clock() if at is None else at
            self._conversations[conversation_id].deleted_at = at
            self._append(conversation_id, (), at, None, None)

    def remove_item(self, conversation_id: str, item_id: str) -> None:
        """Remove an item for good. Counts nothing: that it was added stays counted.

        Raises KeyError for an unknown conversation or item.
        """
        with self._lock:
            items = self._conversations[conversation_id].items
            found = next((item for item in items if item.id == item_id), None)
            if found is None:
                raise KeyError(item_id)
            items.remove(found)

    def report_created_at(self, conversation_id: str, created_at: float) -> None:
        """List a conversation with another time of creation from now on, which updates it.

        Counts nothing: it stays counted when it was created. Raises KeyError for an unknown one.
        """
        with self._lock:
            self._conversations[conversation_id].created_at = created_at
            self.touch(conversation_id)

    def finish_response(self, response_id: str, created_at: float) -> None:
        """End a response now, and list it with `created_at` as its time of creation from now on.

        Counts nothing. Raises KeyError for an unknown response.
        """
        with self._lock:
            response = self.remove_response(response_id)
            now = self.clock()
            self._add_response(replace(response, created_at=created_at, finished_at=now))

    def _append(
        self,
        conversation_id: str,
        bodies: Sequence[Mapping[str, Any]],
        at: float,
        response_id: str | None,
        visible_at: float | None,
    ) -> list[Item]:
        """Add items and count them as one operation, both under the conversation's owner."""
        conversation = self._conversations[conversation_id]
        added = [Item(self._new_id("item"), at, response_id, dict(body)) for body in bodies]
        conversation.append(added)
        self.touch(conversation_id, at)
        key, user = conversation.owner
        self.log(Event(at, user, key, 0, len(added), 1, visible_at))
        return added

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._next_number(prefix):08x}"

    def _next_number(self, name: str) -> int:
        self._numbers[name] = number = self._numbers.get(name, 0) + 1
        return number
