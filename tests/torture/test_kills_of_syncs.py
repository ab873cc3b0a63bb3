"""A sync may die at any moment, and the next one ends where one that was left alone ends."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb
import pytest

from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.lake.store import Lake
from pipeline.timeline import WIDTHS, day_window
from tests.torture.conftest import Figures
from tests.torture.scenes import Worker, days, require_cleared_up

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


def grow(world: World, random: Random) -> None:
    """What happens after the first sync, at the end of the last day."""
    evening = day_window(DAYS[-1]).start + 84_000
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


@pytest.mark.parametrize("before", ["nothing", "an older sync"])
def test_a_sync_that_is_killed_at_any_moment_is_made_good_by_the_next(
    tmp_path: Path, long: bool, figures: Figures, before: str
) -> None:
    """Over usage alone, or over an older sync without the last key: what was done with that on days
    that are not asked for has to be observed too."""
    kills = 100 if long else 3
    random = Random(before)
    world = World(keys=KEYS, clock=ManualClock(day_window(DAYS[-1]).end + 30.0 * 86_400))
    for _ in range(60):
        talk(world, random, day_window(random.choice(DAYS)).start + random.randrange(80_000))
    with EmulatorServer(world) as server, Worker() as next_:
        older = Lake(tmp_path / "older" / "lake")
        assert next_.load(server, older.root, DAYS) == "done"
        asked = DAYS
        if before != "nothing":
            assert next_.sync(server, older.root, DAYS, KEYS[:-1]) == "done"
            grow(world, random)
            assert next_.load(server, older.root, DAYS) == "done"
            asked = DAYS[-1:]
        clean = Lake(tmp_path / "clean" / "lake")
        shutil.copytree(older.root.parent, clean.root.parent, symlinks=True)
        with Worker() as worker:
            began = time.monotonic()
            assert worker.sync(server, clean.root, asked, KEYS) == "done"
            takes = time.monotonic() - began
        expected = read(clean)
        assert all(expected.values())
        wrong: list[str] = []
        landed = 0
        for number in range(kills):
            home = tmp_path / str(number)
            lake = Lake(home / "lake")
            shutil.copytree(older.root.parent, home, symlinks=True)
            copied = {path: path.stat().st_ino for path in lake.files("items")}
            for again in range(1 + number % 2):  # the second may die too
                with Worker() as worker:
                    worker.begin_sync(server, lake.root, asked, KEYS, full=bool(again))
                    worker.wait(takes * (number + random.random()) / kills)
            landed += {path: path.stat().st_ino for path in lake.files("items")} != copied
            assert next_.sync(server, lake.root, asked, KEYS) == "done"
            require_cleared_up(lake)
            wrong += [f"kill {number}: {table}" for table in differing(read(lake), expected)]
            shutil.rmtree(home)
    figures(
        f"kill -9 of syncs over {before}",
        kills=kills,
        killed_after_landing=landed,
        tables_wrong=len(wrong),
    )
    assert not wrong, ", ".join(wrong)
