"""Endpoint 2, GET /api/v1/llm/conversations: its question and its answer, typed and checked.

Belongs here: every parameter with its bounds, and a page decoded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from pipeline.api.client import Answer, Client
from pipeline.api.fields import (
    Envelope,
    Id,
    ListPage,
    Moment,
    Order,
    check_id,
    check_limit,
    check_order,
    check_text,
    decoded,
    on_behalf_of_header,
    refuse,
    require_page,
)
from pipeline.api.unicode import Note, as_sent, unnoted

PATH: Final = "/api/v1/llm/conversations"
MAX_LIMIT: Final = 50
"""Most conversations a page may be asked for."""


@dataclass(frozen=True, slots=True)
class ConversationsQuery:
    """One question to endpoint 2: the conversations of a key's owner, or of `on_behalf_of`.

    `order` is by last update, a time that no field shows; `after` is a conversation's id and means
    its current place. `metadata` pairs must all match; `search` is full text over the items.
    InvalidQuery where a value breaks the contract or could not be sent as it is.
    """

    after: str | None = None
    limit: int = MAX_LIMIT
    order: Order = "asc"
    metadata: Mapping[str, str] | None = None
    search: str | None = None
    on_behalf_of: str | None = None

    def __post_init__(self) -> None:
        check_limit(self.limit, MAX_LIMIT)
        check_order(self.order)
        check_id("after", self.after)
        check_text("search", self.search)
        on_behalf_of_header(self.on_behalf_of)
        _check_metadata(self.metadata)

    def params(self) -> list[tuple[str, str]]:
        """The query string's pairs."""
        pairs = [("limit", str(self.limit)), ("order", self.order)]
        if self.after is not None:
            pairs.append(("after", as_sent(self.after)))
        if self.metadata is not None:
            pairs.append(("metadata", json.dumps(dict(self.metadata), ensure_ascii=False)))
        if self.search is not None:
            pairs.append(("search", self.search))
        return pairs


class Conversation(msgspec.Struct, frozen=True, gc=False):
    """A conversation as listed. Times are Unix seconds; `metadata` is JSON, its keys sorted."""

    id: str
    created_at: float
    deleted_at: float | None = None
    identity: str | None = None
    metadata: str | None = None


class _Conversation(msgspec.Struct, gc=False):
    id: Id
    created_at: Moment
    deleted_at: Moment | None = None
    identity: str | None = None
    metadata: dict[str, Any] | None = None


class _Page(Envelope):
    data: list[_Conversation] | None = None
    last_id: str | None = None


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        refuse("metadata", metadata, "a mapping of texts to texts")
    for text in (text for pair in metadata.items() for text in pair):
        if text is None:
            refuse("metadata", text, "a mapping of texts to texts")
        check_text("metadata", text, empty=True)


_decoder: Final = msgspec.json.Decoder(_Page)
_encoder: Final = msgspec.json.Encoder(order="sorted")


async def get_conversations(
    client: Client, query: ConversationsQuery
) -> Answer[ListPage[Conversation]]:
    """One page of endpoint 2. Raises what `Client.get` raises."""
    headers = on_behalf_of_header(query.on_behalf_of)
    decode = partial(decode_conversations, note=partial(client.odd_text.add, f"GET {PATH}"))
    return await client.get(PATH, query.params(), decode, headers, private=True)


def decode_conversations(body: bytes, note: Note = unnoted) -> ListPage[Conversation]:
    """A page from its JSON. MalformedBody where it is no JSON, ShapeError where it is no page."""
    return decoded(_decode, body, "a page of conversations", 2, note)


def _decode(body: bytes) -> ListPage[Conversation]:
    page = _decoder.decode(body)
    require_page(page, page.data, body)
    rows = [
        Conversation(
            row.id,
            row.created_at,
            row.deleted_at,
            row.identity,
            None if row.metadata is None else _encoder.encode(row.metadata).decode(),
        )
        for row in page.data or ()
    ]
    return ListPage(rows, page.has_more, page.last_id or None)
