"""Values of databases: texts, and bytes that are texts, packed or not, as Dagster keeps them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pipeline.forget.person import Person


def texts_of(value: Any) -> Iterator[str]:
    """What a value says, where it is text or bytes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | memoryview):
        content = bytes(value)
        yield content.decode("utf-8", "replace")
        with suppress(zlib.error):
            yield zlib.decompress(content).decode("utf-8", "replace")


def renamed(value: Any, person: Person, name: str) -> Any:
    """A value that calls the person by another name; None where it does not name them."""
    if isinstance(value, str):
        return _changed(value, person, name)
    if isinstance(value, bytes | memoryview):
        content = bytes(value)
        with suppress(zlib.error, UnicodeDecodeError):
            text = _changed(zlib.decompress(content).decode(), person, name)
            return None if text is None else zlib.compress(text.encode())
        with suppress(UnicodeDecodeError):
            text = _changed(content.decode(), person, name)
            return None if text is None else text.encode()
    return None


def _changed(text: str, person: Person, name: str) -> str | None:
    after = person.replaced(text, name)
    return None if after == text else after
