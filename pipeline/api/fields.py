"""What the endpoints' questions and answers have in common: how values are checked and sent.

Belongs here: text that can be sent, the user that is acted for, times as the API gives them, pages
from JSON. Does not belong here: any one endpoint.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, NoReturn, TypeVar
from urllib.parse import quote

import msgspec

from pipeline.api.errors import InvalidQuery, MalformedBody, ShapeError

T = TypeVar("T")

Order = Literal["asc", "desc"]
Id = Annotated[str, msgspec.Meta(min_length=1)]
Moment = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]
"""Unix seconds from 1970 to 9999; the API gives whole and broken ones. JSON has no NaN."""
Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_UNSENDABLE: Final = re.compile(r"[\x00-\x1f\x7f]|^\s|\s\Z")


def refuse(name: str, value: object, expected: str) -> NoReturn:
    """InvalidQuery: `name` is `value`, and must be as expected."""
    raise InvalidQuery(f"{name} is {value!r}: it must be {expected}")


def check_limit(limit: object, most: int) -> None:
    """InvalidQuery unless `limit` is a whole number from 1 to `most`."""
    if type(limit) is not int or not 1 <= limit <= most:
        refuse("limit", limit, f"from 1 to {most}")


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


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold it: half of a surrogate pair is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def acting_for(user_id: str | None) -> dict[bytes, bytes]:
    """The header that names the end user, as UTF-8; no header for the key's owner.

    InvalidQuery for an id that no header holds as it is: with control characters, or blanks around
    it. Encoding it would ask for another user, wherever the server does not decode it. The error
    does not quote the id: whoever asks knows it, and may have to keep it out of logs.
    """
    if user_id is None:
        return {}
    try:
        check_text("on_behalf_of", user_id)
    except InvalidQuery:
        raise InvalidQuery("on_behalf_of is no text that UTF-8 can hold, or is empty") from None
    if _UNSENDABLE.search(user_id):
        raise InvalidQuery("on_behalf_of is an id with control characters, or blanks around it")
    return {b"X-On-Behalf-Of": user_id.encode()}


def in_path(name: str, value: str) -> str:
    """An id as one segment of a path."""
    check_text(name, value)
    if value in {None, ".", ".."}:
        refuse(name, value, "an id that a path can hold")
    return quote(value, safe="")


def require_json(body: bytes) -> None:
    """MalformedBody unless the body is JSON to its end: a decoder stops at the first wrong type."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError:  # too deep to be looked through: no better when asked for again
        return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"a body that is not whole JSON: {error}") from None


def decoded(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """A page from its JSON. MalformedBody where it is no JSON, ShapeError where it is no such page.

    Neither error quotes the body.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        require_json(body)
        raise ShapeError(f"JSON that is not {what} ({error})") from None
    except RecursionError:
        raise ShapeError(f"JSON that is nested too deeply for {what}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"a body that is not whole JSON: {error}") from None
