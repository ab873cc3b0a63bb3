"""A world of a few people, one of whom is to be forgotten, and homes in which they are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.forget import Outcome, Person, Places, forget, person_of
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import day_window
from tests.synced import Reader
from tests.torture.search import everything, places

FIRST = date(2024, 1, 1)
DAYS = [FIRST, FIRST + timedelta(days=1)]
MIDNIGHT = day_window(FIRST).start
LATER = MIDNIGHT + 30 * 86_400
WHO = "zaphod+4711@planted.example"
OTHERS = ("bob", "käthe", "4711@planted.example.org")


def new_world(who: str = WHO, others: Sequence[str] = OTHERS) -> World:
    """A few people on two days, with two keys; what they say and their metadata name two of
    them."""
    world = World(clock=ManualClock(LATER))
    for number, user in enumerate((who, *others)):
        for day in range(2):
            at = MIDNIGHT + 86_400 * day + 3_600 * number
            key = ("key_web", "key_mobile")[(number + day) % 2]
            name = world.create_conversation(at, user, key, {"who": user, "by": who})
            said = [{"type": "message", "role": "user", "content": f"I am {user}"}]
            world.add_response(name, at + 60, said)
            world.add_items(name, said, at + 120)
    return world


def new_home(server: EmulatorServer, home: Path, pseudonyms: Pseudonyms | None = None) -> Reader:
    """A home with all that, and with records of runs and leftovers that name the person."""
    reader = Reader(server, Lake(home / "lake"), DAYS, pseudonyms=pseudonyms)
    reader.load()
    reader.sync(keep_content=pseudonyms is None)
    build_catalog(reader.lake, home / "usage.duckdb")
    return reader


def add_outputs(home: Path) -> None:
    """An export, a report, and Dagster's records, each of which names the person."""
    for folder in ("export", "report", "dagster/history"):
        (home / folder).mkdir(parents=True)
    said = {"mka1_usage_export": 1, "files": {"dim_user.csv": {}}}
    (home / "export" / "export.json").write_text(json.dumps(said), encoding="utf-8")
    (home / "export" / "dim_user.csv").write_text(f"user_id\n{WHO}\n", encoding="utf-8")
    (home / "report" / "usage.html").write_text("<p>Zaphod Beeblebrox</p>", encoding="utf-8")
    (home / "dagster" / "run.log").write_text(f"user {WHO}: 5\n", encoding="utf-8")
    with closing(sqlite3.connect(home / "dagster" / "history" / "runs.db")) as con:
        con.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, event TEXT)")
        told = f'{{"text": "2 found\\n{WHO}: far above", "number": 4711}}'
        con.executemany("INSERT INTO events (event) VALUES (?)", [(told,), ("{}",)])
        con.commit()


def places_of(home: Path) -> Places:
    return Places(home, home / "usage.duckdb", home / "export", home / "dagster")


def forgotten(reader: Reader, home: Path, who: str | Person = WHO) -> Outcome:
    """Forget them; what was done."""
    person = who if isinstance(who, Person) else person_of(who, reader.pseudonyms)
    return forget(reader.lake, places_of(home), person)


def named_in(folder: Path, word: str = WHO) -> list[str]:
    """The files below a folder that hold a word in any form, by a search that is none of ours."""
    return places(everything(folder), word)
