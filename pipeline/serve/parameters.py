"""Endpoint 1's query string as a question: each parameter known, given once, and of its type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from pipeline.query.buckets import PageQuery
from pipeline.timeline import AnyWidth

DEFAULT_WIDTH: Final[AnyWidth] = "1d"
DEFAULT_LIMITS: Final[Mapping[AnyWidth, int]] = {
    **{"1m": 1_440, "5m": 288, "15m": 96},
    **{"1h": 168, "6h": 28, "1d": 31, "1w": 53, "1mo": 12},
}
"""Buckets on a page without `limit`: a day of minutes, a week of hours, a month of days, a year."""

_FLAGS: Final = frozenset({"names"})
_INTEGERS: Final = frozenset({"start_time", "end_time", "limit"})
_TEXTS: Final = frozenset({"bucket_width", "page", "tz"})
_LISTS: Final = frozenset({"user_ids", "group_by"})
_UNANSWERABLE: Final = frozenset({"external_user_ids", "org_ids", "all_orgs"})
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}", re.ASCII)


def parse(raw: bytes) -> PageQuery:
    """The question of a query string, as sent. ValueError, in one line, for what is no question.

    An array is its key repeated. Values are percent-encoded UTF-8.
    """
    given: dict[str, Any] = {}
    for name, value in _pairs(raw):
        if name in _UNANSWERABLE:
            raise ValueError(f"{name} is not in the lake: filter by user_ids")
        if name in _LISTS:
            given.setdefault(name, []).append(value)
        elif name not in _TEXTS | _INTEGERS | _FLAGS:
            raise ValueError(f"unknown parameter: {name}")
        elif name in given:
            raise ValueError(f"{name} is given twice")
        else:
            given[name] = _read(name, value)
    if "start_time" not in given:
        raise ValueError("start_time is required: Unix seconds, the first that counts")
    width = given.setdefault("bucket_width", DEFAULT_WIDTH)
    given.setdefault("limit", DEFAULT_LIMITS.get(width, 1))
    given["user_ids"] = tuple(sorted(set(given.get("user_ids", ()))))
    given["group_by"] = tuple(sorted(set(given.get("group_by", ()))))
    return PageQuery(**given)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise ValueError("the query string is not percent-encoded UTF-8") from None


def _read(name: str, value: str) -> int | bool | str:
    if name in _INTEGERS:
        return _integer(name, value)
    if name in _FLAGS:
        if value not in {"true", "false"}:
            raise ValueError(f"{name} must be true or false, not {value!r}")
        return value == "true"
    return value


def _integer(name: str, value: str) -> int:
    if not _INTEGER.fullmatch(value):
        raise ValueError(f"{name} must be an integer, not {value!r}")
    return int(value)
