"""A page of a usage endpoint whose measures are not known beforehand, typed and checked.

Belongs here: what of a result is a measure, what is a column, and what is kept as it came. The
published client leaves results untyped: any whole number in one is a measure (docs/api.md, "Other
usage endpoints"). `usage` has the questions, and endpoint 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

import msgspec

from pipeline.api.client import Answer, Client
from pipeline.api.fields import (
    LARGEST,
    Envelope,
    count,
    decoded,
    is_whole,
    on_behalf_of_header,
    plain_integer,
    require_page,
)
from pipeline.api.unicode import Note, unnoted
from pipeline.api.usage import UsageQuery


class MeterRow(msgspec.Struct):
    """One result row as served: what a user did with a key and a model in a bucket.

    `measures` are its whole numbers by name, from 0 to 2^63-1; `extra` is the JSON of all other
    fields, sorted by name, None where there are none.
    """

    user_id: str | None
    api_key_id: str | None
    model: str | None
    measures: dict[str, int]
    extra: str | None = None


class MeterBucket(msgspec.Struct):
    """One bucket as served, `[start_time, end_time)` in Unix seconds."""

    start_time: int
    end_time: int
    results: list[MeterRow]


@dataclass(frozen=True, slots=True)
class MeterPage:
    """One page as served; a result that was null as a whole is left out.

    `has_more` is None where it was not said.
    """

    buckets: list[MeterBucket]
    has_more: bool | None
    next_page: str | None


_Plain = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)] | str | bool | None
"""What a result holds as a rule. Anything else is read from its own text."""


class _PlainBucket(msgspec.Struct):
    start_time: int
    end_time: int
    results: list[dict[str, _Plain]]


class _PlainPage(Envelope):
    data: list[_PlainBucket]
    next_page: str | None = None


class _LooseBucket(msgspec.Struct):
    start_time: msgspec.Raw
    end_time: msgspec.Raw
    # Raw: numbers stay as they were sent
    results: list[dict[str, msgspec.Raw] | None] | None = None


class _LoosePage(Envelope):
    data: list[_LooseBucket] | None = None
    next_page: str | None = None


_plain: Final = msgspec.json.Decoder(_PlainPage)
_loose: Final = msgspec.json.Decoder(_LoosePage)
_second: Final = msgspec.json.Decoder(int)
_word: Final = msgspec.json.Decoder(str | bool | None)
_encoder: Final = msgspec.json.Encoder(order="sorted")
_COLUMNS: Final = ("user_id", "api_key_id", "model")
_WORDS: Final = frozenset(b'"tfn')
"""How text, true, false and null begin."""
_NESTED: Final = frozenset(b"[{")


async def get_meters(client: Client, query: UsageQuery) -> Answer[MeterPage]:
    """One page of `query.endpoint`. Raises what `Client.get` raises, and ShapeError."""
    headers, path = on_behalf_of_header(query.on_behalf_of), query.endpoint.path
    decode = partial(decode_meters, note=partial(client.odd_text.add, f"GET {path}"))
    return await client.get(path, query.params(), decode, headers)


def decode_meters(body: bytes, note: Note = unnoted) -> MeterPage:
    """A page from its JSON. MalformedBody where it is no JSON, ShapeError where it is no page."""
    return decoded(_decode, body, "a page of usage buckets", 3, note)


def _decode(body: bytes) -> MeterPage:
    try:
        page = _plain.decode(body)
    except msgspec.ValidationError:
        return _decode_loosely(body)
    require_page(page, page.data, body)
    buckets = [
        MeterBucket(bucket.start_time, bucket.end_time, list(map(_row, bucket.results)))
        for bucket in page.data
    ]
    return MeterPage(buckets, page.has_more, page.next_page)


def _decode_loosely(body: bytes) -> MeterPage:
    """The slower way, for all that the contract allows beside what it shows."""
    page = _loose.decode(body)
    require_page(page, page.data, body)
    buckets: list[MeterBucket] = []
    for loose in page.data or ():
        start, end = (
            _second.decode(plain_integer(time)) for time in (loose.start_time, loose.end_time)
        )
        rows = [
            _row({name: _value(name, raw) for name, raw in result.items()})
            for result in loose.results or ()
            if result is not None
        ]
        buckets.append(MeterBucket(start, end, rows))
    return MeterPage(buckets, page.has_more, page.next_page)


def _value(name: str, raw: msgspec.Raw) -> Any:
    """A whole number, text, a boolean or null; of all else the JSON as it was sent."""
    first = bytes(raw).lstrip(b" \t\r\n")[0]
    if first in _WORDS:
        return _word.decode(raw)
    if first in _NESTED or not is_whole(raw):
        return raw
    return count(raw, name)


def _row(fields: dict[str, Any]) -> MeterRow:
    """A row from the fields of a result, which are used up."""
    user_id, api_key_id, model = (_column(fields, name) for name in _COLUMNS)
    _column(fields, "object")  # the endpoint's name once more
    others = {name: value for name, value in fields.items() if type(value) is not int}
    for name in others:
        del fields[name]
    extra = _encoder.encode(others).decode() if others else None
    return MeterRow(user_id, api_key_id, model, fields, extra)


def _column(fields: dict[str, Any], name: str) -> str | None:
    value = fields.pop(name, None)
    if value is None or isinstance(value, str):
        return value
    raise msgspec.ValidationError(f"Expected `str | null` - at `{name}`")
