"""Small lakes with something the matter: days that are missing, open, provisional; odd ids; days
without a sync.

Belongs here: making them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.lake import engine
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import claim
from pipeline.timeline import DAY, SECONDS, day_of, day_window, parse_time
from tests.lake.served import Row, copy_day, write_rows
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

_PLACE: Final = tempfile.TemporaryDirectory(prefix="loaded days ")
"""Outlives the tests, whose own folders are removed when they pass."""

_ALREADY: Final[dict[_Reading, Lake]] = {}
"""The lake that has such a day, loaded and never changed."""


def loaded(root: Path, events: Sequence[Event], *readings: tuple[float, Sequence[int]]) -> Lake:
    """A lake into which days were loaded at some moments: (Unix seconds, numbers of days).

    It has copies of the days: those that an earlier lake had too are not loaded again.
    """
    made = Lake(Path(tempfile.mkdtemp(dir=_PLACE.name)))
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


@dataclass(frozen=True)
class Bucket:
    """An hour of responses of a day, by its number: whose they are, and what they came to."""

    day: int
    user: str | None = "ada"
    key: str | None = "key"
    model: str | None = "large"
    responses: int = 1
    failed: int = 0
    input: int | None = 1_000
    cached: int | None = 0
    output: int | None = 100
    reasoning: int | None = 0
    total: int | None = 1_100


def listed(root: Path, buckets: Sequence[Bucket], days: range, synced: Sequence[int]) -> Lake:
    """A lake of days with one call of each user and key that has a bucket, of which those `synced`
    have the buckets too, as at 9 o'clock."""
    lake = Lake(root)
    claim(lake, None)
    with lake.staging() as folder, closing(engine.connect()) as con:
        changes: dict[date, Change] = {}
        for number in days:
            day = on(number)
            tables = _tables([one for one in buckets if one.day == number], number)
            files = {
                name: write_rows(name, folder / f"{day}" / f"{name}.parquet", rows, day_window(day))
                for name, rows in tables.items()
                if number in synced or name.startswith("usage")
            }
            changes[day] = Change(files, read_at={"usage": LATER, "conversations": LATER})
        publish_days(con, lake, changes)
    return lake


def _tables(buckets: Sequence[Bucket], number: int) -> dict[str, list[Row]]:
    used = {
        (one.user, one.key): {"user_id": one.user, "api_key_id": one.key, **_ONE_CALL}
        for one in buckets
    }
    tables: dict[str, list[Row]] = {}
    for width, seconds in SECONDS.items():
        at = START + number * DAY + (0 if width == "1d" else 9 * 3_600)
        times = {"start_time": at, "end_time": at + seconds}
        tables[f"usage_{width}"] = [{**row, **times} for row in used.values()]
        tables[f"tokens_{width}"] = [{**_row(one), **times} for one in buckets]
        tables[f"observed_{width}"] = []
    return tables


_ONE_CALL: Final = dict.fromkeys(
    ("num_conversations_created", "num_items_added", "num_operations"), 1
)


def _row(one: Bucket) -> Row:
    return {
        **{"user_id": one.user, "api_key_id": one.key, "model": one.model},
        **{"num_responses": one.responses, "num_failed": one.failed},
        **{"input_tokens": one.input, "cached_tokens": one.cached},
        **{"output_tokens": one.output, "reasoning_tokens": one.reasoning},
        "total_tokens": one.total,
    }
