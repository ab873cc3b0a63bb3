"""Read one listing: the conversations, responses and items that one key shows for one user.

Belongs here: in which order the three endpoints are asked, which conversations' items are read
again, and what is a gap rather than a failure.

Responses come first: they name conversations, and they date items. Then the list of conversations,
then the items of those that are new, moved or named. The list can't show that the newest
conversation was touched once more: so while usage says that more items were added than were found,
conversations are tried from the head of the list on. A response that was made in the meantime is
fetched before its items are handed over, so that they get its time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, TypeVar

from pipeline.api import (
    Client,
    Conversation,
    InvalidQuery,
    Item,
    ItemsQuery,
    Refused,
    Response,
    ResponsesQuery,
    conversation_walk,
    is_sendable,
    item_walk,
    response_walk,
)
from pipeline.conversations.cursors import ListingState, TailState

T = TypeVar("T")

_PROBES: Final = 3
"""How many conversations in a row may have nothing new before probing ends."""
_GONE: Final = 404


@dataclass(frozen=True, slots=True)
class Listing:
    """What one key shows for one user; `user_id` None is the key owner's own listing.

    `user_id` is what is written of the user, `on_behalf_of` what the API calls them: it goes into
    requests and nowhere else. Without pseudonyms both are the same.
    """

    api_key_id: str
    user_id: str | None
    on_behalf_of: str | None = field(repr=False, compare=False)

    def __str__(self) -> str:
        whose = "its owner" if self.user_id is None else f"user {self.user_id!r}"
        return f"key {self.api_key_id}, {whose}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What usage says has come about since the last reading, at least."""

    conversations: int = 0
    items: int = 0


@dataclass(slots=True)
class Found:
    """All that a reading brought. Complete: a reading that fails brings nothing."""

    conversations: list[Conversation] = field(default_factory=list[Conversation])
    responses: dict[str, Response] = field(default_factory=dict[str, Response])
    items: dict[tuple[str, str], Item] = field(default_factory=dict[tuple[str, str], Item])
    """By the id of the conversation that each is in, and its own. Some may have been known."""
    tails: dict[str, TailState] = field(default_factory=dict[str, TailState])
    """Of the conversations whose items were read."""
    order: Sequence[str] = ()
    complete: bool = False
    """Whether the whole list was read: what is not in `order` has vanished."""
    response_cursor: str | None = None
    waiting: list[str] = field(default_factory=list[str])
    """The responses that are not final and not given up, in the order of the list."""
    has_unlisted: bool = False
    """Whether items name responses that the whole list does not have."""
    abandoned: list[str] = field(default_factory=list[str])
    """The responses that are not final and given up, in the order of the list."""
    gaps: list[str] = field(default_factory=list[str])


async def read_listing(
    client: Client,
    listing: Listing,
    known: ListingState,
    expected: Expected,
    tail_of: Callable[[str], TailState],
    *,
    keep_bodies: bool = False,
    given_up: Callable[[Response], bool] = lambda _: False,
    settled_before: float = math.inf,
) -> Found:
    """Read what is new in a listing since `known`; everything, where nothing is known.

    A response that is not final is read again next time, unless it is `given_up`; so is one that
    was not created before `settled_before` (Unix seconds), since others may come to stand before
    it. Raises ApiError: then nothing of the listing counts. A conversation whose items are gone
    (404) is a gap instead.
    """
    reading = _Reading(client, listing, known, tail_of, keep_bodies, given_up, settled_before)
    await reading.responses()
    await reading.conversations(expected.conversations)
    await reading.items(expected.items)
    return reading.found


class _Reading:
    def __init__(
        self,
        client: Client,
        listing: Listing,
        known: ListingState,
        tail_of: Callable[[str], TailState],
        keep_bodies: bool,
        given_up: Callable[[Response], bool],
        settled_before: float,
    ) -> None:
        self.found = Found(response_cursor=known.response_cursor, has_unlisted=known.has_unlisted)
        self._client = client
        self._user = listing.on_behalf_of
        self._known = known
        self._tail_of = tail_of
        self._given_up = given_up
        self._settled_before = settled_before
        self._keep_bodies = keep_bodies
        self._moved: Sequence[str] = ()
        self._new_items = 0
        self._sought = known.waiting
        self._read_whole = False  # whether responses were read from the beginning of their list

    async def responses(self) -> None:
        """Read the responses from the cursor on, and move it up to the first that is waited for.

        One that was waited for and does not stand behind the cursor any more may have got another
        time of creation: then the list is read from its beginning.
        """
        await self._responses_behind(self.found.response_cursor)
        missed = set(self._sought) - self.found.responses.keys()
        self._sought = ()
        if missed and self.found.response_cursor is not None:
            await self._responses_behind(None)

    async def _responses_behind(self, cursor: str | None) -> None:
        found = self.found
        query = ResponsesQuery(after=cursor, on_behalf_of=self._user)
        walk = response_walk(self._client, query)
        async for page in walk.pages():
            found.responses.update((response.id, response) for response in page)
        for name in walk.order:  # what was read late because a cursor was gone may come first
            found.responses[name] = found.responses.pop(name)
        found.waiting, found.abandoned = [], []
        for response in found.responses.values():
            if not response.is_final:
                which = found.abandoned if self._given_up(response) else found.waiting
                which.append(response.id)
        waiting = set(found.waiting)
        done = takewhile(lambda name: name not in waiting and self._is_settled(name), walk.order)
        start = None if walk.whole else cursor
        found.response_cursor = [start, *filter(is_sendable, done)][-1]
        self._read_whole = self._read_whole or start is None

    def _is_settled(self, response_id: str) -> bool:
        """Whether nothing that is created from now on can come to stand before a response."""
        return self.found.responses[response_id].created_at < self._settled_before

    async def conversations(self, expect_new: int) -> None:
        """Walk the list as far as anything can have changed."""
        walk = conversation_walk(
            self._client, self._user, known=self._known.order, expect_new=expect_new
        )
        latest: dict[str, Conversation] = {}
        async for page in walk.pages():
            latest.update((conversation.id, conversation) for conversation in page)
        found = self.found
        found.conversations = list(latest.values())
        found.order, found.complete, self._moved = walk.order, walk.complete, walk.moved

    async def items(self, expected: int) -> None:
        """Read the items of what is new, moved or named, then probe while some are missing."""
        found = self.found
        listed = set(found.order)
        named = (r.conversation_id for r in found.responses.values() if r.conversation_id)
        touched = dict.fromkeys([*self._moved, *(name for name in named if name in listed)])
        await at_once(self._read_items, touched, self._client.limits.concurrency)
        idle = 0
        for name in found.order:
            if self._new_items >= expected or idle == _PROBES:
                break
            if name not in touched:
                before = self._new_items
                await self._read_items(name)
                idle = 0 if self._new_items > before else idle + 1
        if self._unknown():
            await self.responses()
        if self._unknown() and self.found.response_cursor is not None and not found.has_unlisted:
            # One that was listed late may stand anywhere, but where the list was read whole just
            # now. Where that was in vain, it stays so: what is not stored is never listed.
            if not self._read_whole:
                await self._responses_behind(None)
            found.has_unlisted = bool(self._unknown())

    def _unknown(self) -> set[str]:
        """The responses that items name and that have not been read."""
        named = {item.response_id for item in self.found.items.values() if item.response_id}
        return named - self.found.responses.keys()

    async def _read_items(self, conversation_id: str) -> None:
        found, tail = self.found, self._tail_of(conversation_id)
        try:
            query = ItemsQuery(conversation_id, after=tail.last_item_id, on_behalf_of=self._user)
            walk = item_walk(self._client, query, keep_bodies=self._keep_bodies)
            async for page in walk.pages():
                found.items.update(((conversation_id, item.id), item) for item in page)
        except (InvalidQuery, Refused) as refusal:
            if isinstance(refusal, Refused) and refusal.status != _GONE:
                raise
            why = "are gone (404)" if isinstance(refusal, Refused) else "can't be asked for"
            found.gaps.append(f"conversation {conversation_id}: its items {why}")
            found.tails[conversation_id] = tail._replace(unreadable=True)
            return
        before = 0 if walk.whole else tail.items
        # Behind the cursor, some may come again next time: they are counted then.
        end = walk.order.index(walk.cursor) + 1 if walk.cursor in walk.order else 0
        found.tails[conversation_id] = TailState(conversation_id, walk.cursor, before + end)
        # Some that had been known may have vanished, so there may be more new ones than that.
        self._new_items += max(0, before + end - tail.items)


async def at_once(work: Callable[[T], Awaitable[None]], todo: Iterable[T], at_most: int) -> None:
    """Do `work` on each of `todo`, some at once. The first error ends the others and is raised."""
    remaining = iter(todo)

    async def worker() -> None:
        for one in remaining:
            await work(one)

    tasks = [asyncio.ensure_future(worker()) for _ in range(at_most)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
