"""Small lakes with something the matter: days that are missing, open, provisional; odd ids.

Belongs here: making them. Does not belong here: what a report says of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_of, parse_time
from tests.lake.served import copy_day
from tests.truth import load

FIRST: Final = date(2024, 1, 1)
START: Final = parse_time("2024-01-01")
LATER: Final = START + 400 * DAY

ODD_IDS: Final = (
    "<script>alert(1)</script>",
    "</svg></style><img src=http://example.org/x>",
    "=1+1",
    "x" * 4_000,
    "مستخدم",
    "\u202eevil\u202c",
    "a\x00b\x1b[31m\nc",
    "{{ 7 * 7 }} datum.value",
    " ",
    '&amp;<b>" onload="alert(1)',
)
"""User ids that no page may be taken in by."""


def on(number: int) -> date:
    """The day of that number, from 0."""
    return FIRST + timedelta(days=number)


def one_a_day(users: Sequence[str | None], days: range, hour: int = 9) -> list[Event]:
    """A call of each user on each day: operations as many as the day's number, and one."""
    return [
        Event(START + number * DAY + hour * 3_600, user, "key", 1, 2, number + 1)
        for number in days
        for user in users
    ]


_Reading = tuple[float, int, tuple[Event, ...]]
"""When a day was loaded, its number and its events: the same day again for the same ones."""

_ALREADY: Final[dict[_Reading, Lake]] = {}
"""The lake that has such a day, loaded and never changed."""


def loaded(root: Path, events: Sequence[Event], *readings: tuple[float, Sequence[int]]) -> Lake:
    """A lake into which days were loaded at some moments: (Unix seconds, numbers of days).

    It has copies of the days: those that an earlier lake had too are not loaded again.
    """
    # Outside the test's own folder, which goes when the test has passed.
    made = Lake(root.parent.with_name(f"{root.parent.name} as loaded") / root.name)
    clock = ManualClock(LATER)
    days = [
        (now, number, tuple(one for one in events if on(number) == day_of(one.second)))
        for now, numbers in readings
        for number in numbers
    ]
    assert len({number for _, number, _ in days}) == len(days), "a day is loaded once"
    with EmulatorServer(World.from_events(events, clock=clock)) as server:
        for now, _ in readings:
            clock.now = now
            new = [day for day in days if day[0] == now and day not in _ALREADY]
            load(server, made, [on(number) for _, number, _ in new])
            _ALREADY.update(dict.fromkeys(new, made))
    lake = Lake(root)
    for day in days:
        copy_day(_ALREADY[day], lake, on(day[1]))
    return lake
