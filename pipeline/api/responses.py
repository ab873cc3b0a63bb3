"""Endpoint 5, GET /api/v1/llm/responses: its question and its answer, typed and checked.

Belongs here: every parameter with its bounds, and a page decoded, without what a response says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

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
    count,
    decoded,
    on_behalf_of_header,
    require_page,
)
from pipeline.api.unicode import Note, as_sent, unnoted

PATH: Final = "/api/v1/llm/responses"
MAX_LIMIT: Final = 100
"""Most responses a page may be asked for."""

FINAL: Final = frozenset({"completed", "failed", "cancelled", "incomplete"})
"""Statuses that do not change any more (docs/api.md, Responses). One that is not known may."""


@dataclass(frozen=True, slots=True)
class ResponsesQuery:
    """One question to endpoint 5. `order` is by creation; `after` and `before` are response ids.

    InvalidQuery where a value breaks the contract or could not be sent as it is.
    """

    after: str | None = None
    before: str | None = None
    limit: int = MAX_LIMIT
    order: Order = "desc"
    on_behalf_of: str | None = None

    def __post_init__(self) -> None:
        check_limit(self.limit, MAX_LIMIT)
        check_order(self.order)
        check_id("after", self.after)
        check_id("before", self.before)
        on_behalf_of_header(self.on_behalf_of)

    def params(self) -> list[tuple[str, str]]:
        """The query string's pairs."""
        pairs = [("limit", str(self.limit)), ("order", self.order)]
        pairs += [
            (name, as_sent(value))
            for name, value in (("after", self.after), ("before", self.before))
            if value is not None
        ]
        return pairs


class Response(msgspec.Struct, frozen=True, gc=False):
    """A response as listed. `created_at` is Unix seconds; tokens are None if not reported."""

    id: str
    created_at: float
    status: str
    model: str | None = None
    conversation_id: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether its status can't change any more."""
        return self.status in FINAL


_NULL: Final = msgspec.Raw(b"null")


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: msgspec.Raw = _NULL


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: msgspec.Raw = _NULL


class _Usage(msgspec.Struct, gc=False):
    input_tokens: msgspec.Raw = _NULL
    input_tokens_details: _InputDetails | None = None
    output_tokens: msgspec.Raw = _NULL
    output_tokens_details: _OutputDetails | None = None
    total_tokens: msgspec.Raw = _NULL


class _Named(msgspec.Struct, gc=False):
    id: str | None = None


class _Response(msgspec.Struct, gc=False):
    id: Id
    created_at: Moment
    status: Id
    model: str | None = None
    conversation: _Named | str | None = None
    usage: _Usage | None = None


class _Page(Envelope):
    data: list[_Response] | None = None
    last_id: str | None = None


_decoder: Final = msgspec.json.Decoder(_Page)
_NO_USAGE: Final = _Usage()
_NO_INPUT: Final = _InputDetails()
_NO_OUTPUT: Final = _OutputDetails()


async def get_responses(client: Client, query: ResponsesQuery) -> Answer[ListPage[Response]]:
    """One page of endpoint 5. Raises what `Client.get` raises."""
    headers = on_behalf_of_header(query.on_behalf_of)
    decode = partial(decode_responses, note=partial(client.odd_text.add, f"GET {PATH}"))
    return await client.get(PATH, query.params(), decode, headers, private=True)


def decode_responses(body: bytes, note: Note = unnoted) -> ListPage[Response]:
    """A page from its JSON. MalformedBody where it is no JSON, ShapeError where it is no page."""
    return decoded(_decode, body, "a page of responses", 2, note)


def _decode(body: bytes) -> ListPage[Response]:
    page = _decoder.decode(body)
    require_page(page, page.data, body)
    rows = [_response(row) for row in page.data or ()]
    return ListPage(rows, page.has_more, page.last_id or None)


def _response(row: _Response) -> Response:
    usage, named = row.usage or _NO_USAGE, row.conversation
    tokens = {
        "input_tokens": usage.input_tokens,
        "cached_tokens": (usage.input_tokens_details or _NO_INPUT).cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": (usage.output_tokens_details or _NO_OUTPUT).reasoning_tokens,
        "total_tokens": usage.total_tokens,
    }
    return Response(
        row.id,
        row.created_at,
        row.status,
        row.model,
        (named.id if isinstance(named, _Named) else named) or None,
        **{name: count(number, name) for name, number in tokens.items()},
    )
