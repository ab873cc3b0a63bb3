"""Endpoints 2 to 5: conversations, items and responses, a page at a time.

A cursor here is the id of a row and means that row's *current* place: docs/api.md, "A list that
moves while it is read".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import msgspec

from pipeline.emulator.counting import JsonObject
from pipeline.emulator.faults import FaultPlan
from pipeline.emulator.queries import ApiError, Query
from pipeline.emulator.shapes import conversation_json, item_json, response_json
from pipeline.emulator.state import Conversation, Owner, Response
from pipeline.emulator.world import World

ORDERS = ("asc", "desc")
DEFAULT_LIMIT = 20
MAX_CONVERSATIONS, MAX_ITEMS, MAX_RESPONSES, MAX_POSTED = 50, 100, 100, 20


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


_Row = TypeVar("_Row", bound=_HasId)


class _Posted(msgspec.Struct):
    items: list[JsonObject]


def list_conversations(world: World, owner: Owner, raw: bytes, plan: FaultPlan) -> JsonObject:
    """Endpoint 2: the owner's conversations by last update, by default soft-deleted ones too.

    `metadata` is a JSON object whose pairs must all be there; `search` is looked for in the text of
    the items, in any letter case.
    """
    _forbid(owner, plan)
    query = Query(raw, single=("after", "limit", "order", "metadata", "search"))
    after, limit = query.text("after"), query.limit(MAX_CONVERSATIONS, DEFAULT_LIMIT)
    order = query.choice("order", ORDERS, "asc")
    wanted = _metadata_filter(query.text("metadata"))
    _touch_some(world, owner, after, plan)
    now, search = world.clock(), query.text("search")
    listed = _listed(_conversations_after(world, owner, after, order, plan), now, plan)
    matching = (row for row in listed if _matches(row, wanted, search, now))
    page, has_more = _first(matching, limit, plan)
    return _list_json(page, has_more, lambda conversation: conversation_json(conversation, now))


def list_items(
    world: World, owner: Owner, conversation_id: str, raw: bytes, plan: FaultPlan
) -> JsonObject:
    """Endpoint 3: a conversation's items in the order they were added. `include` does nothing."""
    _forbid(owner, plan)
    query = Query(raw, single=("after", "limit", "order"), lists=("include",))
    limit, order = query.limit(MAX_ITEMS, DEFAULT_LIMIT), query.choice("order", ORDERS, "asc")
    conversation = _conversation(world, owner, conversation_id, plan)
    if plan.faults.deleted_gone is not None and conversation.is_deleted(world.clock()):
        raise _not_found(conversation_id)
    everything = _ordered(conversation.items_at(world.clock()), order)
    page, has_more = _first(_rows_after(everything, query.text("after"), plan), limit, plan)
    return _list_json(page, has_more, item_json)


def create_items(
    world: World,
    owner: Owner,
    conversation_id: str,
    raw: bytes,
    body: bytes,
    plan: FaultPlan,
    *,
    late_by: float = 0.0,
) -> JsonObject:
    """Endpoint 4: add 1 to 20 items and answer with them. Not idempotent.

    They are there `late_by` seconds after the clock's now, and counted when `usage_delay` says.
    """
    _forbid(owner, plan)
    Query(raw, single=(), lists=("include",))
    items = _posted_items(body)
    conversation = _conversation(world, owner, conversation_id, plan)
    if conversation.is_deleted(world.clock()):
        raise _not_found(conversation_id)
    at = world.clock() + late_by
    added = set(
        world.add_items(conversation_id, items, at, visible_at=at + plan.faults.usage_delay)
    )
    rows = [item for item in conversation.items if item.id in added]
    return _list_json(rows, False, item_json)


def list_responses(world: World, owner: Owner, raw: bytes, plan: FaultPlan) -> JsonObject:
    """Endpoint 5: the owner's responses by creation, by default the newest first.

    With `before`, the page is the one that ends right before that response.
    """
    _forbid(owner, plan)
    query = Query(raw, single=("after", "before", "limit", "order"))
    limit, order = query.limit(MAX_RESPONSES, DEFAULT_LIMIT), query.choice("order", ORDERS, "desc")
    after, before = query.text("after"), query.text("before")
    everything = _ordered(_responses(world, owner, plan), order)
    rows = _rows_after(everything, after, plan)
    if before is not None and _place(everything, before) is None:
        rows = _rows_unknown(rows, before, plan)
    elif before is not None:
        rows = rows[: _place(rows, before) or 0]
    if before is not None and after is None:
        page, has_more = _first(rows[::-1], limit, plan)
        page = page[::-1]
    else:
        page, has_more = _first(rows, limit, plan)
    now = world.clock()
    shape = _list_json(page, has_more, lambda response: response_json(response, now))
    return {**shape, "first_id": page[0].id if page else None, "last_id": shape["last_id"] or None}


def _list_json(
    rows: Sequence[_Row], has_more: bool, to_json: Callable[[_Row], JsonObject]
) -> JsonObject:
    # The published client wants a string for last_id, also on an empty page.
    last_id = rows[-1].id if rows else ""
    data = [to_json(row) for row in rows]
    return {"object": "list", "data": data, "has_more": has_more, "last_id": last_id}


def _ordered(rows: list[_Row], order: str) -> list[_Row]:
    return rows if order == "asc" else rows[::-1]


def _place(rows: Sequence[_Row], row_id: str) -> int | None:
    return next((place for place, row in enumerate(rows) if row.id == row_id), None)


def _rows_after(rows: list[_Row], after: str | None, plan: FaultPlan) -> list[_Row]:
    if after is None:
        return rows
    place = _place(rows, after)
    return _rows_unknown(rows, after, plan) if place is None else rows[place + 1 :]


def _rows_unknown(rows: list[_Row], cursor: str, plan: FaultPlan) -> list[_Row]:
    """What is listed behind or before a cursor that is not in the list."""
    match plan.faults.unknown_cursor:
        case "beginning":
            return rows
        case "empty":
            return []
        case status:
            raise ApiError(status, f"Unknown cursor: {cursor}")


def _first(rows: Iterable[_Row], limit: int, plan: FaultPlan) -> tuple[list[_Row], bool]:
    """The page of at most `limit` rows, or of the server's lower limit, and if there is more."""
    limit = min(limit, plan.faults.clamp_limit or limit)
    page = list(islice(rows, limit + 1))
    return page[:limit], len(page) > limit


def _conversations_after(
    world: World, owner: Owner, after: str | None, order: str, plan: FaultPlan
) -> Iterable[Conversation]:
    """The owner's conversations behind the cursor; unlike `_rows_after`, it needs no search."""
    if plan.faults.shared:
        return _rows_after(_ordered(_conversations(world, owner, plan), order), after, plan)
    if after is None:
        return _ordered(world.conversations_of(owner), order)
    cursor, beside = world.conversation(after), world.conversations_beside(owner, after)
    if cursor is None or beside is None or not any(_listed([cursor], world.clock(), plan)):
        return _rows_unknown(_ordered(world.conversations_of(owner), order), after, plan)
    older, newer = beside
    return newer if order == "asc" else reversed(older)


def _listed(rows: Iterable[Conversation], now: float, plan: FaultPlan) -> Iterable[Conversation]:
    """Those of `rows` that endpoint 2 lists: all, unless the server drops the soft-deleted."""
    if plan.faults.deleted_gone != "listing":
        return rows
    return (row for row in rows if not row.is_deleted(now))


def _touch_some(world: World, owner: Owner, after: str | None, plan: FaultPlan) -> None:
    """Let updates come in between two pages, if the plan has any now."""
    random = plan.next_touch()
    if random is None:
        return
    there = list(_listed(_conversations(world, owner, plan), world.clock(), plan))
    if not there:
        return
    on_cursor = after is not None and random.random() < 0.5
    cursor = next((row for row in there if on_cursor and row.id == after), None)
    touched = [cursor or random.choice(there)]
    if (more := plan.faults.touches - 1) > 0:
        others = [row for row in there if row is not touched[0]]
        touched += random.sample(others, min(more, len(others)))
    for row in touched:
        # After the newest update, even when the world's clock stands still.
        world.touch(row.id)


def _forbid(owner: Owner, plan: FaultPlan) -> None:
    if owner[1] in plan.faults.forbidden:
        raise ApiError(403, f"This API key may not act for the user {owner[1]}")


def _not_found(conversation_id: str) -> ApiError:
    return ApiError(404, f"Conversation not found: {conversation_id}")


def _owners(world: World, owner: Owner, plan: FaultPlan) -> list[Owner]:
    """Those whose records the listing of `owner` shows, itself among them."""
    (key, user), shared = owner, plan.faults.shared
    return [owner] + [
        other
        for other in world.owners()
        if other != owner
        and (other[0] == key or "keys" in shared)
        and (other[1] == user or "users" in shared)
    ]


def _conversations(world: World, owner: Owner, plan: FaultPlan) -> list[Conversation]:
    """What the listing shows, by last update."""
    owners, now = _owners(world, owner, plan), world.clock()
    rows = [row for each in owners for row in world.conversations_of(each)]
    return sorted(rows, key=lambda row: row.updated_at(now))


def _responses(world: World, owner: Owner, plan: FaultPlan) -> list[Response]:
    """What the listing shows, by creation."""
    rows = [row for each in _owners(world, owner, plan) for row in world.responses_of(each)]
    return sorted(rows, key=lambda row: (row.created_at, row.number))


def _conversation(
    world: World, owner: Owner, conversation_id: str, plan: FaultPlan
) -> Conversation:
    conversation = world.conversation(conversation_id)
    if conversation is None or conversation.owner not in _owners(world, owner, plan):
        raise _not_found(conversation_id)
    return conversation


def _metadata_filter(text: str | None) -> Mapping[str, str]:
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError:
        raise ApiError(400, "metadata must be a JSON object with string values") from None


def _matches(
    conversation: Conversation, wanted: Mapping[str, str], search: str | None, now: float
) -> bool:
    metadata = conversation.metadata or {}
    if any(metadata.get(name) != value for name, value in wanted.items()):
        return False
    if not search:
        return True
    words = search.casefold()
    return any(words in item.text.casefold() for item in conversation.items_at(now))


def _posted_items(body: bytes) -> list[JsonObject]:
    try:
        posted = msgspec.json.decode(body, type=_Posted).items
    except msgspec.MsgspecError as error:
        raise ApiError(400, f"The body must be an object with an array of items: {error}") from None
    if not 1 <= len(posted) <= MAX_POSTED:
        raise ApiError(400, f"items must be 1 to {MAX_POSTED} items, not {len(posted)}")
    return [_posted_item(item) for item in posted]


def _posted_item(posted: JsonObject) -> JsonObject:
    """One posted item; its type is `message` when it has none."""
    match item := {"type": "message", **posted}:
        case {"type": "message", "role": str(), "content": str() | list()}:
            return item
        case {"type": str(kind)} if kind != "message":
            return item
        case _:
            raise ApiError(400, "An item needs a type, and a message a role and content")
