"""Messages to a person at a terminal: one line on stderr, without control characters."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def in_words(error: OSError) -> str:
    """The error without its number: `/data/lake: Permission denied`."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def say(message: str) -> None:
    """Write a message to stderr, under the command's name."""
    print(f"mka1-usage: {printable(message)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text without what a terminal obeys instead of showing it, which ids may hold: control
    characters (C0, DEL, C1) but line ends and tabs, and marks that turn the direction of writing.

    Each is written as JSON escapes it, so that JSON stays the same JSON.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def short(path: Path) -> str:
    """The path as one would type it from the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
