"""Questions to the usage endpoints, and the answer of GET /api/v1/llm/usage/conversations.

Belongs here: every parameter with its bounds, and a page of endpoint 1 decoded; `meters` decodes
those of the other endpoints. It is strict where a number could
be wrong (docs/api.md, "Time and units"), and lenient where the contract is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import msgspec

from pipeline.api.client import Answer, Client
from pipeline.api.fields import (
    LARGEST,
    Envelope,
    check_group_by,
    check_limit,
    check_window,
    decoded,
    on_behalf_of_header,
    plain_integer,
    refuse,
    require_page,
)
from pipeline.api.unicode import Note, as_sent, is_unicode, unnoted
from pipeline.endpoints import CONVERSATIONS, Endpoint, GroupBy
from pipeline.timeline import WIDTHS, Width

PATH: Final = CONVERSATIONS.path
MAX_LIMIT: Final = 1_440
"""Most buckets a page may be asked for, at every width."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """One question to a usage endpoint. Times are Unix seconds, UTC; `end_time` None means "now".

    `external_user_ids`, `org_ids`, `all_orgs`, `on_behalf_of`, the group `org_id`, and all
    endpoints but the first are what the published client adds to the founding contract.
    InvalidQuery where a value breaks it, where `endpoint` has no such group or filter, or where a
    value could not be sent as it is: what is not Unicode, or no header value.
    """

    start_time: int
    end_time: int | None = None
    bucket_width: Width = "1d"
    limit: int = MAX_LIMIT
    page: str | None = None
    user_ids: Sequence[str] = ()
    group_by: Sequence[GroupBy] = ()
    external_user_ids: Sequence[str] = ()
    org_ids: Sequence[str] = ()
    all_orgs: str | None = None
    on_behalf_of: str | None = None
    endpoint: Endpoint = CONVERSATIONS
    models: Sequence[str] = ()
    background: bool | None = None

    def __post_init__(self) -> None:
        if self.bucket_width not in WIDTHS:
            refuse("bucket_width", self.bucket_width, f"one of {', '.join(WIDTHS)}")
        check_limit(self.limit, MAX_LIMIT)
        check_window(self.start_time, self.end_time)
        check_group_by(self.group_by, self.endpoint.group_by)
        self._check_filters()
        self._check_texts()

    def _check_filters(self) -> None:
        if self.background is not None and type(self.background) is not bool:
            refuse("background", self.background, "true or false")
        for name, asked in (
            ("models", bool(self.models)),
            ("background", self.background is not None),
        ):
            if asked and name not in self.endpoint.filters:
                value, endpoint = getattr(self, name), self.endpoint.name
                refuse(name, value, f"left out: usage/{endpoint} has no such filter")

    def _check_texts(self) -> None:
        for name in ("user_ids", "external_user_ids", "org_ids", "models"):
            # A string is a sequence of strings too, and would ask for each of its letters.
            if isinstance(getattr(self, name), str):
                refuse(name, getattr(self, name), "a sequence of ids")
        for name, value in self.params():
            if not is_unicode(value):
                refuse(name, value, "text that UTF-8 can hold")
        on_behalf_of_header(self.on_behalf_of)

    def params(self) -> list[tuple[str, str]]:
        """The query string's pairs; an array is its key repeated."""
        pairs = [("start_time", str(self.start_time))]
        if self.end_time is not None:
            pairs.append(("end_time", str(self.end_time)))
        pairs += [("bucket_width", self.bucket_width), ("limit", str(self.limit))]
        if self.page is not None:
            pairs.append(("page", as_sent(self.page)))
        for name, values in (
            ("user_ids", self.user_ids),
            ("group_by", self.group_by),
            ("external_user_ids", self.external_user_ids),
            ("org_ids", self.org_ids),
            ("models", self.models),
        ):
            pairs += [(name, as_sent(value)) for value in values]
        if self.all_orgs is not None:
            pairs.append(("all_orgs", self.all_orgs))
        if self.background is not None:
            pairs.append(("background", "true" if self.background else "false"))
        return pairs


Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)] | None


class Result(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One result row as served: what a user did with a key in a bucket."""

    user_id: str | None = None
    api_key_id: str | None = None
    num_conversations_created: Count = None
    num_items_added: Count = None
    num_operations: Count = None
    object: str | None = None


class Bucket(msgspec.Struct, gc=False):
    """One bucket as served, `[start_time, end_time)` in Unix seconds."""

    start_time: int
    end_time: int
    results: list[Result]


class _StrictPage(Envelope):
    data: list[Bucket]
    next_page: str | None = None


class _LooseBucket(msgspec.Struct):
    start_time: msgspec.Raw
    end_time: msgspec.Raw
    # Raw: numbers stay as they were sent
    results: list[dict[str, msgspec.Raw] | None] | None = None


class _LoosePage(Envelope):
    data: list[_LooseBucket] | None = None
    next_page: str | None = None


@dataclass(frozen=True, slots=True)
class UsagePage:
    """One page as served; a result that was null as a whole is left out.

    `has_more` is None where it was not said.
    `extras` holds, for each result of each bucket in order, the JSON of the fields that the
    contract does not know (None where there are none); it is None where no result has any.
    """

    buckets: list[Bucket]
    has_more: bool | None
    next_page: str | None
    extras: list[str | None] | None = None


_strict: Final = msgspec.json.Decoder(_StrictPage)
_loose: Final = msgspec.json.Decoder(_LoosePage)
_result: Final = msgspec.json.Decoder(Result)
_second: Final = msgspec.json.Decoder(int)
_encoder: Final = msgspec.json.Encoder(order="sorted")
_KNOWN: Final = frozenset(Result.__struct_fields__)
_COUNTS: Final = tuple(name for name in Result.__struct_fields__ if name.startswith("num_"))


async def get_usage(client: Client, query: UsageQuery) -> Answer[UsagePage]:
    """One page of usage, read as endpoint 1's: what it does not know of a result is in `extras`.

    Raises what `Client.get` raises, and ShapeError.
    """
    headers, path = on_behalf_of_header(query.on_behalf_of), query.endpoint.path
    decode = partial(decode_page, note=partial(client.odd_text.add, f"GET {path}"))
    return await client.get(path, query.params(), decode, headers)


def decode_page(body: bytes, note: Note = unnoted) -> UsagePage:
    """A page from its JSON. MalformedBody where it is no JSON, ShapeError where it is no page."""
    return decoded(_decode, body, "a page of usage buckets", 3, note)


def _decode(body: bytes) -> UsagePage:
    try:
        page = _strict.decode(body)
    except msgspec.ValidationError:
        return _decode_loosely(body)
    require_page(page, page.data, body)
    return UsagePage(page.data, page.has_more, page.next_page)


def _decode_loosely(body: bytes) -> UsagePage:
    """The slower way, for all that the contract allows beside what it shows."""
    page = _loose.decode(body)
    require_page(page, page.data, body)
    buckets: list[Bucket] = []
    extras: list[str | None] = []
    for loose in page.data or ():
        results: list[Result] = []
        for result in loose.results or ():
            if result is None:
                continue
            known = {name: value for name, value in result.items() if name in _KNOWN}
            unknown = {name: value for name, value in result.items() if name not in _KNOWN}
            results.append(_known(known))
            extras.append(_encoder.encode(unknown).decode() if unknown else None)
        start, end = (
            _second.decode(plain_integer(time)) for time in (loose.start_time, loose.end_time)
        )
        buckets.append(Bucket(start, end, results))
    return UsagePage(buckets, page.has_more, page.next_page, extras if any(extras) else None)


def _known(fields: dict[str, msgspec.Raw]) -> Result:
    """A result from the fields that the contract knows."""
    try:
        return _result.decode(_encoder.encode(fields))
    except msgspec.ValidationError:
        counts = {name: plain_integer(fields[name]) for name in _COUNTS if name in fields}
        return _result.decode(_encoder.encode({**fields, **counts}))
