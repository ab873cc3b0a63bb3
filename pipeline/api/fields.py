"""What questions and answers of all endpoints have in common: how values are checked and sent.

Belongs here: text that can be sent, the end user, times and whole numbers as the API gives them,
pages from JSON.

A body without data, without `has_more` and without the name of a page is no empty page: a gateway
says something in the place of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, Generic, Literal, NoReturn, TypeVar
from urllib.parse import quote

import msgspec

from pipeline.api import unicode
from pipeline.api.errors import InvalidQuery, MalformedBody, ShapeError
from pipeline.api.unicode import Note, as_sent, is_unicode

T = TypeVar("T")
Row = TypeVar("Row")

Order = Literal["asc", "desc"]
Id = Annotated[str, msgspec.Meta(min_length=1)]
Moment = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]
"""Unix seconds from 1970 to 9999; the API gives whole and broken ones. JSON has no NaN."""
_FIRST_SECOND_AFTER_9999: Final = 253_402_300_800
LARGEST: Final = 2**63 - 1
"""Counts are from 0 to this."""

_DECIMAL: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?")
_TOO_LONG: Final = 20
_PAGES: Final = ("page", "list")
_SAYS_WHY: Final = frozenset({"error", "errors", "fault", "message", "detail"})
"""What an object that is no page has where a gateway says what went wrong."""
_UNSENDABLE: Final = re.compile(r"[\x00-\x1f\x7f]|^\s|\s\Z")


def refuse(name: str, value: object, expected: str) -> NoReturn:
    """InvalidQuery: `name` is `value`, and must be as expected."""
    raise InvalidQuery(f"{name} is {value!r}: it must be {expected}")


def check_limit(limit: object, most: int) -> None:
    """InvalidQuery unless `limit` is a whole number from 1 to `most`."""
    if type(limit) is not int or not 1 <= limit <= most:
        refuse("limit", limit, f"from 1 to {most}")


def check_seconds(name: str, seconds: object) -> None:
    """InvalidQuery unless they are whole Unix seconds from 1970 to 9999."""
    if type(seconds) is not int or not 0 <= seconds < _FIRST_SECOND_AFTER_9999:
        refuse(name, seconds, "Unix seconds between 1970 and 9999")


def check_window(start: int, end: int | None) -> None:
    """InvalidQuery unless both are Unix seconds, and `end` (None: now) is after `start`."""
    check_seconds("start_time", start)
    if end is None:
        return
    check_seconds("end_time", end)
    if end <= start:
        refuse("end_time", end, f"after start_time ({start})")


def check_group_by(groups: Sequence[str], known: Sequence[str]) -> None:
    """InvalidQuery unless all `groups` are `known`, and none stands there twice."""
    for group in groups:
        if group not in known:
            refuse("group_by", group, f"any of {', '.join(known)}")
    if len(set(groups)) < len(groups):
        refuse("group_by", list(groups), "without repetition")


def check_order(order: str) -> None:
    """InvalidQuery unless it is asc or desc."""
    if order not in {"asc", "desc"}:
        refuse("order", order, "asc or desc")


def check_text(name: str, value: object, *, empty: bool = False) -> None:
    """InvalidQuery where a value can't be sent: no text, empty, or half of a surrogate pair."""
    if value is None:
        return
    if not isinstance(value, str):
        refuse(name, value, "text")
    if not (value or empty):
        refuse(name, value, "text that is not empty")
    if not is_unicode(value):
        refuse(name, value, "text that UTF-8 can hold")


def check_id(name: str, value: object) -> None:
    """`check_text` of an id or a cursor, as the API knows it."""
    check_text(name, as_sent(value) if isinstance(value, str) else value)


def on_behalf_of_header(user_id: str | None) -> dict[bytes, bytes]:
    """The header that names the end user, as UTF-8; no header for the key's owner.

    InvalidQuery for an id that no header holds as it is: with control characters, or blanks around
    it. Encoding it would ask for another user, wherever the server does not decode it. The error
    does not quote the id: the caller knows it, and may have to keep it out of logs.
    """
    if user_id is None:
        return {}
    if isinstance(user_id, str):
        user_id = as_sent(user_id)
    try:
        check_text("on_behalf_of", user_id)
    except InvalidQuery:
        raise InvalidQuery("on_behalf_of is no text that UTF-8 can hold, or is empty") from None
    if _UNSENDABLE.search(user_id):
        raise InvalidQuery("on_behalf_of is an id with control characters, or blanks around it")
    return {b"X-On-Behalf-Of": user_id.encode()}


def in_path(name: str, value: str) -> str:
    """An id as one segment of a path."""
    check_id(name, value)
    if value in {None, ".", ".."}:
        refuse(name, value, "an id that a path can hold")
    return quote(as_sent(value), safe="")


def require_json(body: bytes) -> None:
    """MalformedBody unless the body is JSON to its end: a decoder stops at the first wrong type."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError:  # too deep to be looked through: no better when asked for again
        return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"a body that is not whole JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class ListPage(Generic[Row]):
    """One page of a list as served; `has_more` is None where it was not said."""

    rows: list[Row]
    has_more: bool | None
    last_id: str | None = None


class Envelope(msgspec.Struct, kw_only=True):
    """What the pages of all endpoints have around their rows."""

    has_more: bool | None = None
    object: Any = None
    error: Any = None
    errors: Any = None


def decoded(decode: Callable[[bytes], T], body: bytes, what: str, rows_at: int, note: Note) -> T:
    """A page from its JSON. MalformedBody where it is no JSON, ShapeError where it is no such page.

    `decode` is msgspec's own, with its errors. `rows_at` and `note`: see `unicode.read`. No error
    quotes the body.
    """

    def in_our_errors(body: bytes) -> T:
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            require_json(body)
            raise ShapeError(f"JSON that is not {what} ({error})") from None
        except RecursionError:
            raise ShapeError(f"JSON that is nested too deeply for {what}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedBody(f"a body that is not whole JSON: {error}") from None

    return unicode.read(body, in_our_errors, rows_at, note)


def require_page(page: Envelope, data: object, body: bytes) -> None:
    """MalformedBody for an error in the place of a page, ValidationError for any other object.

    `data` is what the page holds, None where it has none.
    """
    if page.error or page.errors or page.object == "error":
        raise MalformedBody("an error in the place of a page", says_why=data is None)
    if data is None and page.has_more is None and page.object not in _PAGES:
        names = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).keys()
        if names & _SAYS_WHY:
            raise MalformedBody("an error in the place of a page", says_why=True)
        raise msgspec.ValidationError("it has neither `data` nor `has_more`")


def plain_integer(number: msgspec.Raw) -> msgspec.Raw:
    """A whole number written as `5.0` or `5e0` the way that integers are; all else as it is.

    It is read as it is written, digit by digit, so nothing is rounded at any size.
    """
    text = bytes(number).strip(b" \t\r\n")
    if text.lstrip(b"-").isdigit() or not _DECIMAL.fullmatch(text):
        return number
    value = Decimal(text.decode("ascii"))
    if not value:
        return msgspec.Raw(b"0")
    if value.adjusted() > _TOO_LONG or value != value.to_integral_value():
        return number
    return msgspec.Raw(b"%d" % int(value))


def is_whole(number: msgspec.Raw) -> bool:
    """Whether a JSON number has no fraction, however it is written, and at any size."""
    text = bytes(number).strip(b" \t\r\n")
    if text.lstrip(b"-").isdigit():
        return True
    if not _DECIMAL.fullmatch(text):  # an exponent that nobody can mean
        return b"e-" not in text.lower()
    value = Decimal(text.decode("ascii"))
    return value == value.to_integral_value()


def count(number: msgspec.Raw, name: str) -> int | None:
    """A whole number from 0 to 2^63-1, None for null. msgspec.ValidationError for all else."""
    try:
        value: int | None = _count.decode(plain_integer(number))
    except msgspec.DecodeError as error:
        raise msgspec.ValidationError(f"{error} - at `{name}`") from None
    return value


_count: Final = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=LARGEST)] | None)
