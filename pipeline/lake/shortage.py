"""Too little memory or disk for a query: said as that, and never taken for a damaged file."""

from __future__ import annotations

import errno
import os
import re
from typing import Final

import duckdb

_LIMIT: Final = re.compile(r"/([^()/]+) used\)")
"""Where DuckDB says how much there is: `(28.4 MiB/28.6 MiB used)`."""
_FULL: Final = os.strerror(errno.ENOSPC)


def shortage(error: BaseException) -> str | None:
    """What was too little, and what to do, in one line; None for every other error."""
    if isinstance(error, MemoryError):  # also Arrow's
        return _memory(None)
    if isinstance(error, duckdb.OutOfMemoryException):
        return shortage_in(str(error))
    if isinstance(error, duckdb.IOException) and _FULL in str(error):
        return _disk(None)
    return None


def shortage_in(message: str) -> str | None:
    """The same, by what an error said, where nothing else is left of it."""
    if not message.startswith("Out of Memory Error"):
        return None
    found = _LIMIT.search(message)
    limit = found[1] if found else None
    return _disk(limit) if "max_temp_directory_size" in message else _memory(limit)


def first_line(error: BaseException) -> str:
    """What a library says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _memory(limit: str | None) -> str:
    may = f"queries may use {limit} (MKA1_USAGE_MEMORY)" if limit else "the machine has no more"
    return f"too little memory: {may}, and this takes more; give it more, or ask for less at once"


def _disk(limit: str | None) -> str:
    room = f"the {limit} that were free" if limit else "the room that was free"
    return (
        f"too little disk: what outgrows memory takes more than {room} on the disk of the home "
        "folder; make room there, or set MKA1_USAGE_MEMORY higher"
    )
