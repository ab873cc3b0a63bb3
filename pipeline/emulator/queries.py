"""A request's query, read as strictly as the API may: parameters known, single, and in range."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException

_INTEGER = re.compile(r"-?[0-9]{1,15}")


class ApiError(HTTPException):
    """An answer that is not 200: `{"error": detail}` with that status."""


class Query:
    """The parameters of one request. All readers raise ApiError 400 for what isn't allowed.

    `lists` are the parameters that may be repeated; `single` those that may be given once.
    """

    def __init__(self, raw: bytes, *, single: Sequence[str], lists: Sequence[str] = ()) -> None:
        try:
            pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise ApiError(400, f"The query is not URL-encoded UTF-8: {error}") from error
        self._single: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}
        for name, value in pairs:
            if name in lists:
                self._lists.setdefault(name, []).append(value)
            elif name not in single:
                raise ApiError(400, f"Unknown parameter: {name}")
            elif name in self._single:
                raise ApiError(400, f"Parameter given twice: {name}")
            else:
                self._single[name] = value

    def text(self, name: str) -> str | None:
        """A parameter as sent, or None."""
        return self._single.get(name)

    def texts(self, name: str) -> list[str] | None:
        """The values of a repeatable parameter, or None when it is absent."""
        return self._lists.get(name)

    def integer(self, name: str) -> int | None:
        """An integer in plain decimal digits, or None."""
        value = self._single.get(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise ApiError(400, f"{name} must be an integer, not {value!r}")
        return int(value)

    def limit(self, most: int, default: int) -> int:
        """`limit`, which lies in 1..most."""
        limit = self.integer("limit")
        if limit is None:
            return default
        if not 1 <= limit <= most:
            raise ApiError(400, f"limit must be between 1 and {most}, not {limit}")
        return limit

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of the words in `choices`."""
        value = self._single.get(name, default)
        if value not in choices:
            raise ApiError(400, f"{name} must be one of {', '.join(choices)}, not {value!r}")
        return value

    def several(self, name: str, choices: Sequence[str]) -> tuple[str, ...]:
        """The values of a repeatable parameter, each one of the words in `choices`."""
        values = tuple(self.texts(name) or ())
        for value in values:
            if value not in choices:
                raise ApiError(400, f"{name} must be any of {', '.join(choices)}, not {value!r}")
        return values
