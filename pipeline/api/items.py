"""Endpoints 3 and 4, …/conversations/{id}/items: reading and adding items, typed and checked.

Belongs here: every parameter with its bounds, and a page decoded. Only the length of what an item
says leaves this module, unless the whole item is asked for. No error quotes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from pipeline.api.client import Answer, Client
from pipeline.api.fields import (
    Envelope,
    Id,
    ListPage,
    Order,
    check_id,
    check_limit,
    check_order,
    check_text,
    decoded,
    in_path,
    on_behalf_of_header,
    refuse,
    require_page,
)
from pipeline.api.unicode import Note, as_sent, unnoted
from pipeline.messages import count

PATH: Final = "/api/v1/llm/conversations/{id}/items"
MAX_LIMIT: Final = 100
"""Most items a page may be asked for."""
MAX_ADDED: Final = 20
"""Most items that one request may add."""


def path(conversation_id: str) -> str:
    """The path of a conversation's items. InvalidQuery for an id that no path can hold."""
    return PATH.replace("{id}", in_path("conversation_id", conversation_id))


@dataclass(frozen=True, slots=True)
class ItemsQuery:
    """One question to endpoint 3. `include` is accepted, and not implemented by the API.

    InvalidQuery where a value breaks the contract or could not be sent as it is.
    """

    conversation_id: str
    after: str | None = None
    limit: int = MAX_LIMIT
    order: Order = "asc"
    include: Sequence[str] = ()
    on_behalf_of: str | None = None

    def __post_init__(self) -> None:
        path(self.conversation_id)
        check_limit(self.limit, MAX_LIMIT)
        check_order(self.order)
        check_id("after", self.after)
        on_behalf_of_header(self.on_behalf_of)
        _included(self.include)

    def params(self) -> list[tuple[str, str]]:
        """The query string's pairs; an array is its key repeated."""
        pairs = [("limit", str(self.limit)), ("order", self.order)]
        if self.after is not None:
            pairs.append(("after", as_sent(self.after)))
        return pairs + _included(self.include)


class Item(msgspec.Struct, frozen=True, gc=False):
    """An item as listed, of any type. It has no time of its own.

    `content_chars` is the length of its content in characters, over all text parts; half of a
    surrogate pair is one. It is None where it has no content. `body` is its whole JSON, None unless
    it was asked for.
    """

    id: str
    response_id: str | None
    type: str
    role: str | None = None
    content_chars: int | None = None
    body: str | None = None

    def __repr__(self) -> str:
        return f"Item({self.id!r}, type={self.type!r})"  # not what it says


class _Item(msgspec.Struct, gc=False):
    id: Id
    type: Id = "message"
    response_id: str | None = None
    role: str | None = None
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Part(msgspec.Struct, gc=False):
    text: msgspec.Raw = msgspec.Raw(b"null")
    transcript: msgspec.Raw = msgspec.Raw(b"null")
    refusal: msgspec.Raw = msgspec.Raw(b"null")


class _Page(Envelope):
    data: list[_Item] | None = None
    last_id: str | None = None


class _Bodies(msgspec.Struct):
    data: list[msgspec.Raw] | None = None


_decoder: Final = msgspec.json.Decoder(_Page)
_bodies: Final = msgspec.json.Decoder(_Bodies)
_text: Final = msgspec.json.Decoder(str)
_parts: Final = msgspec.json.Decoder(list[_Part | str | None])


async def get_items(
    client: Client, query: ItemsQuery, *, keep_bodies: bool = False
) -> Answer[ListPage[Item]]:
    """One page of endpoint 3. Raises what `Client.get` does; Refused (404) for no conversation."""
    return await client.get(
        path(query.conversation_id),
        query.params(),
        partial(decode_items, keep_bodies=keep_bodies, note=_noted(client, "GET")),
        on_behalf_of_header(query.on_behalf_of),
        private=True,
    )


async def create_items(
    client: Client,
    conversation_id: str,
    items: Sequence[Mapping[str, object]],
    *,
    include: Sequence[str] = (),
    on_behalf_of: str | None = None,
) -> Answer[ListPage[Item]]:
    """Add 1 to 20 items (endpoint 4), and return them. Sent once: see `Client.post`.

    Raises InvalidQuery before a request, OutcomeUnknown where they may or may not have been added.
    """
    if not 1 <= len(items) <= MAX_ADDED:
        refuse("items", count(len(items), "item"), f"1 to {MAX_ADDED} items")
    try:
        sent: dict[str, object] = {"items": [dict(item) for item in items]}
        if include:
            sent["include"] = [name for _, name in _included(include)]
        # Unlike msgspec's, this encoder makes no null of NaN and no array of a set.
        body = json.dumps(sent, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        refuse("items", "what it is", "JSON objects")
    return await client.post(
        path(conversation_id),
        body,
        partial(decode_items, note=_noted(client, "POST")),
        on_behalf_of_header(on_behalf_of),
    )


def _noted(client: Client, method: str) -> Note:
    return partial(client.odd_text.add, f"{method} {PATH}")


def decode_items(body: bytes, *, keep_bodies: bool = False, note: Note = unnoted) -> ListPage[Item]:
    """A page from its JSON. MalformedBody where it is no JSON, ShapeError where it is no page."""
    return decoded(partial(_decode, keep_bodies=keep_bodies), body, "a page of items", 2, note)


def _decode(body: bytes, *, keep_bodies: bool) -> ListPage[Item]:
    page = _decoder.decode(body)
    require_page(page, page.data, body)
    rows = page.data or []
    bodies = (_bodies.decode(body).data or []) if keep_bodies else [None] * len(rows)
    try:
        items = [_item(row, whole) for row, whole in zip(rows, bodies, strict=True)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        items = None
    if items is None:  # raised here, it does not carry along an error that holds what was said
        raise msgspec.DecodeError("text that is not UTF-8")
    return ListPage(items, page.has_more, page.last_id or None)


def _item(row: _Item, whole: msgspec.Raw | None) -> Item:
    return Item(
        row.id,
        row.response_id or None,
        row.type,
        row.role,
        _length(row.content),
        None if whole is None else bytes(whole).decode(),
    )


def _length(content: msgspec.Raw) -> int | None:
    """Characters of a string, or of the text in an array of parts; None for anything else."""
    raw = bytes(content).lstrip()
    try:
        if raw[:1] == b'"':
            return len(as_sent(_text.decode(raw)))
        if raw[:1] == b"[":
            return sum(_part(part) for part in _parts.decode(raw))
    except msgspec.ValidationError:  # parts of a shape that is not known
        return None
    return None


def _part(part: _Part | str | None) -> int:
    if isinstance(part, _Part):
        return sum(map(_chars, (part.text, part.transcript, part.refusal)))
    return len(as_sent(part or ""))


def _chars(text: msgspec.Raw) -> int:
    return len(as_sent(_text.decode(text))) if bytes(text).lstrip()[:1] == b'"' else 0


def _included(include: Sequence[str]) -> list[tuple[str, str]]:
    if isinstance(include, str):
        refuse("include", include, "a sequence of names")
    for name in include:
        check_text("include", name)
    return [("include", name) for name in include]
