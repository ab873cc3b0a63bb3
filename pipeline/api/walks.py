"""The walks over each endpoint, of a client: what callers use, one function for each question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import date
from functools import partial

from pipeline.api.client import Client
from pipeline.api.conversations import ConversationsQuery, get_conversations
from pipeline.api.items import Item, ItemsQuery, get_items
from pipeline.api.list_walk import ConversationWalk, ListWalk
from pipeline.api.meters import MeterPage, get_meters
from pipeline.api.responses import Response, ResponsesQuery, get_responses
from pipeline.api.usage import MAX_LIMIT, Bucket, UsagePage, UsageQuery, get_usage
from pipeline.api.usage_walk import PageSize, walk_narrowing, walk_usage
from pipeline.endpoints import CONVERSATIONS
from pipeline.timeline import day_window, spans


def usage_pages(
    client: Client, query: UsageQuery, size: PageSize | None = None
) -> AsyncIterator[UsagePage]:
    """Every page of a window, in order, checked: as `usage_walk.walk_usage`."""
    return walk_usage(partial(get_usage, client), query, size)


def meter_pages(
    client: Client, query: UsageQuery, size: PageSize | None = None
) -> AsyncIterator[MeterPage]:
    """Every page of a window of `query.endpoint`, in order, checked: as `usage_pages`."""
    return walk_usage(partial(get_meters, client), query, size)


async def usage_of_days(client: Client, days: Iterable[date]) -> AsyncIterator[Bucket]:
    """The 1d buckets of days by user and key, in order: as `usage_walk.walk_narrowing`.

    One page holds 1,440 days that follow one another.
    """
    size = PageSize(buckets=MAX_LIMIT)
    groups = CONVERSATIONS.dimensions
    for first, last in spans(days):
        start, end = day_window(first).start, day_window(last).end
        query = UsageQuery(start, end, "1d", group_by=groups)
        async for bucket in walk_narrowing(partial(get_usage, client), query, size):
            yield bucket


def conversation_walk(
    client: Client, user: str | None, *, known: Sequence[str] = (), expect_new: int = 0
) -> ConversationWalk:
    """A walk over the conversations of a user (the key's owner: None)."""
    return ConversationWalk(
        partial(get_conversations, client),
        ConversationsQuery(on_behalf_of=user),
        known=known,
        expect_new=expect_new,
    )


def response_walk(client: Client, query: ResponsesQuery) -> ListWalk[ResponsesQuery, Response]:
    """A walk over responses, oldest first."""
    return ListWalk(partial(get_responses, client), query)


def item_walk(
    client: Client, query: ItemsQuery, *, keep_bodies: bool = False
) -> ListWalk[ItemsQuery, Item]:
    """A walk over the items of a conversation, oldest first; with `keep_bodies`, as served too."""
    return ListWalk(partial(get_items, client, keep_bodies=keep_bodies), query)
