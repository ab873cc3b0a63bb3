"""Which folders can be used: the paths that DuckDB can't be given in any spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PATTERN: Final = frozenset("*?[")


def unusable(folder: Path) -> str | None:
    """Why no tables can be kept in a folder, by its path; None where they can.

    DuckDB takes text, so bytes that are no UTF-8 have no spelling. A backslash ends a part of a
    pattern, so beside the characters of patterns it has none either.
    """
    text = str(folder)
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds bytes that are no UTF-8 text, which DuckDB can't be given"
    signs = sorted(_PATTERN.intersection(text))
    if "\\" in text and signs:
        return f"holds a backslash together with {signs[0]!r}, which DuckDB can't read"
    return None
