"""Time zones: which there are, and what offset from UTC each has when.

The rules come from the IANA database of the machine or, where it has none, of the package `tzdata`.
Not from DuckDB's own: that is as old as DuckDB, and parliaments move clocks at short notice.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from pipeline.timeline import DAY, Window

_LOOK_EVERY: Final = 7 * DAY
"""No zone has moved its clock and moved it back within a week since 1970 (tests/test_zones.py)."""
_NO_ZONES: Final = frozenset({"localtime", "Factory"})


@dataclass(frozen=True, slots=True)
class Offset:
    """A span `[start, end)` in which a zone's clock is `seconds` ahead of UTC.

    `before` is what it was ahead until `start`; None for the first span of a window, whose start is
    that of the window.
    """

    start: int
    end: int
    seconds: int
    before: int | None


@cache
def zones() -> frozenset[str]:
    """The names of all zones."""
    return frozenset(available_timezones()) - _NO_ZONES


def zone(name: str) -> ZoneInfo:
    """The zone of that name; ValueError, in words for a user, where there is none."""
    if name in zones():
        return ZoneInfo(name)
    by_folded = {known.casefold(): known for known in zones()}
    cities = {known.rpartition("/")[2].casefold(): known for known in sorted(zones())}
    asked = name.strip().replace(" ", "_").casefold()
    meant = by_folded.get(asked) or cities.get(asked)
    if meant is None:
        close = difflib.get_close_matches(asked, [*by_folded, *cities], n=1, cutoff=0.75)
        meant = by_folded.get(close[0], cities.get(close[0])) if close else None
    hint = f"did you mean {meant}?" if meant else "take an IANA name such as Asia/Karachi or UTC"
    raise ValueError(f"{name!r} is no time zone: {hint}")


def offsets(name: str, window: Window) -> list[Offset]:
    """The offsets of a zone from the first second of `window` to its last, in order."""
    known = zone(name)
    changes = [(window.start, _ahead(known, window.start))]
    for start in range(window.start, window.end, _LOOK_EVERY):
        end = min(start + _LOOK_EVERY, window.end - 1)
        while (after := _ahead(known, end)) != changes[-1][1]:
            moved = _first_change(known, max(start, changes[-1][0]), end)
            changes.append((moved, _ahead(known, moved)))
            if changes[-1][1] == after:
                break
    ends = [*(start for start, _ in changes[1:]), window.end]
    before = [None, *(seconds for _, seconds in changes)]
    return [
        Offset(start, end, seconds, earlier)
        for (start, seconds), end, earlier in zip(changes, ends, before, strict=False)
    ]


def _first_change(known: ZoneInfo, start: int, end: int) -> int:
    """The second in `(start, end]` from which the clock no longer shows what it did at `start`."""
    at_start = _ahead(known, start)
    while end - start > 1:
        middle = (start + end) // 2
        if _ahead(known, middle) == at_start:
            start = middle
        else:
            end = middle
    return end


def _ahead(known: ZoneInfo, seconds: int) -> int:
    ahead = datetime.fromtimestamp(seconds, known).utcoffset()
    return int(ahead.total_seconds()) if ahead is not None else 0
