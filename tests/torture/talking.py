"""Worlds of a few users and keys that talk, and all that a lake has of them.

Belongs here: what tests of syncs in other processes start from and compare. Nothing here counts.
"""

from __future__ import annotations

from contextlib import closing
from random import Random
from typing import Any, Final

import duckdb

from pipeline.emulator import World
from pipeline.lake.store import Lake
from pipeline.timeline import WIDTHS, day_window
from tests.torture.scenes import days

DAYS: Final = days(3)
KEYS: Final = ("key_a", "key_b", "key_c")
USERS: Final = (None, "ada", "bob", "käthe")
RECORDS: Final = ("conversations", "responses", "items")
OBSERVED: Final = tuple(f"observed_{width}" for width in WIDTHS)

Tables = dict[str, list[tuple[Any, ...]]]


def said(number: int) -> list[dict[str, str]]:
    """So many items, in turn of a user and an assistant."""
    return [
        {"type": "message", "role": ("user", "assistant")[place % 2], "content": "x"}
        for place in range(number)
    ]


def talk(world: World, random: Random, at: float) -> None:
    """A conversation of any user and key, with responses, and with items of none."""
    name = world.create_conversation(at, random.choice(USERS), random.choice(KEYS))
    for turn in range(random.randrange(4)):
        world.add_response(name, at + 60 * turn, said(random.randrange(1, 5)))
    if random.random() < 0.1:
        world.add_items(name, said(2), at + 300)


def grow(world: World, random: Random, later: float = 0) -> None:
    """What happens after the first sync, at the end of the last day, and so many seconds later."""
    evening = day_window(DAYS[-1]).start + 81_000 + later
    for one in random.sample(world.all_conversations(), 15):
        world.add_response(one.id, evening, said(2))
    for number in range(15):
        talk(world, random, evening + number)


def read(lake: Lake) -> Tables:
    """All records and what is derived of them, in order, but for when they were seen."""
    found: Tables = {}
    with closing(duckdb.connect()) as con:
        con.execute("SET TimeZone = 'UTC'")
        for table in (*RECORDS, *OBSERVED, "reconciliation"):
            files = [str(path) for path in lake.files(table)]
            seen = " EXCLUDE (first_seen_at, last_seen_at)" if table == "conversations" else ""
            query = f"SELECT *{seen} FROM read_parquet(?) ORDER BY ALL"  # names of ours
            found[table] = con.execute(query, [files]).fetchall()
        for table in RECORDS:
            ids = [row[0] for row in found[table]]
            assert len(set(ids)) == len(ids), f"ids of {table} are unique across days"
    return found


def differing(found: Tables, expected: Tables) -> list[str]:
    """The tables that differ."""
    return [table for table, rows in expected.items() if found[table] != rows]
