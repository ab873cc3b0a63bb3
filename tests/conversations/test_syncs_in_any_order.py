"""Whatever happens in between, the records end as one undisturbed reading of everything has them.

Histories are made up: talk, edits, deletions, times of creation that are told anew, and runs over
any days that end at any step of publishing. The emulator counts by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversations import derive
from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.emulator.state import Conversation, Owner
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.timeline import DAY, day_window
from tests.ended import publishing_ends
from tests.synced import Reader, rows_of

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
MIDNIGHT = day_window(FIRST).start
NOW = MIDNIGHT + 12 * DAY
PASSES = 4.9 * 3_600
"""Seconds between two deeds: fourteen of them lie within three days."""
USERS = ("ada", "bob", None)
KEYS = ("key_web", "key_mobile")
pytestmark = pytest.mark.slow

RECORDS = ("conversations", "responses", "items")
DERIVED = ("observed_1m", "observed_1h", "observed_1d", "reconciliation")

Deed = tuple[Any, ...]
"""A function of a history, and what it takes beside it."""


@dataclass
class History:
    """A world, and a lake that runs are made over."""

    server: EmulatorServer
    folder: Path
    clock: ManualClock
    conversations: list[str] = field(default_factory=list[str])
    running: list[str] = field(default_factory=list[str])

    @property
    def world(self) -> World:
        """What there is to be read."""
        return self.server.world

    def owner(self, name: str) -> Owner:
        """Whose a conversation is: key and user."""
        return self.conversation(name).owner

    def conversation(self, name: str) -> Conversation:
        """What the world knows of a conversation."""
        return next(one for one in self.world.all_conversations() if one.id == name)

    def reader(self, days: list[date], name: str = "lake") -> Reader:
        """Runs over these days."""
        return Reader(self.server, Lake(self.folder / name), days)


def said(text: str) -> dict[str, object]:
    return {"type": "message", "role": "user", "content": text}


def talk(history: History, user: str | None, key: str, turns: int, late: float) -> None:
    """A conversation of some turns; it may be one that was created a while ago.

    Not on a day of which usage is never loaded: a later sync goes by the usage that is.
    """
    now = history.clock()
    name = history.world.create_conversation(max(now - late, MIDNIGHT), user, key)
    history.conversations.append(name)
    for turn in range(turns):
        history.world.add_response(name, now + turn, [said("q"), said("a")])
    history.world.touch(name)


def on_one(history: History, which: int, work: Any, *more: float) -> None:
    """Something is done to a conversation, where there is one; it is an operation."""
    if history.conversations:
        name = history.conversations[which % len(history.conversations)]
        owner = history.owner(name)
        work(history, name, *more)
        history.world.touch(name)
        history.world.log(Event(history.clock(), owner[1], owner[0], 0, 0, 1))


def go_on(history: History, name: str) -> None:
    history.world.add_response(name, history.clock(), [said("q"), said("a")])


def begin(history: History, name: str) -> None:
    """A response that runs until it is told to end."""
    ends = MIDNIGHT + 99 * DAY
    running = history.world.add_response(name, history.clock(), [said("q")], finished_at=ends)
    history.running.append(running)


def end(history: History, moves: float) -> None:
    """A response that runs ends, and tells another time of creation than before."""
    if history.running:
        name = history.running.pop(0)
        told = next(one for one in history.world.all_responses() if one.id == name)
        history.world.finish_response(name, told.created_at + moves)


def tell(history: History, name: str, moves: float) -> None:
    """Say another time of creation: a day before or after, or one that can't be."""
    at = history.conversation(name).created_at
    history.world.report_created_at(name, max(0.0, at + moves))


def delete(history: History, name: str) -> None:
    history.world.delete_conversation(name)


def remove_item(history: History, name: str) -> None:
    items = history.conversation(name).items
    if items:
        history.world.remove_item(name, items[-1].id)


def run(history: History, first: int, last: int, full: bool, steps: int | None) -> None:
    """A run over some days; it ends at a step of publishing, or goes through."""
    today = int((history.clock() - MIDNIGHT) // DAY)
    first, last = sorted((min(first, today), min(last, today)))
    reader = history.reader(DAYS[first : last + 1])
    reader.load()
    with suppress(KeyboardInterrupt), publishing_ends(steps):
        reader.sync(full=full)


days = st.integers(0, len(DAYS) - 1)
which = st.integers(0, 5)
told = st.sampled_from([-DAY, -3_600.0, -19_723.0 * DAY])


def one(work: Any, *more: st.SearchStrategy[Any]) -> st.SearchStrategy[Deed]:
    return st.tuples(st.just(on_one), which, st.just(work), *more)


kept = st.one_of(
    st.tuples(
        *(st.just(talk), st.sampled_from(USERS), st.sampled_from(KEYS), st.integers(0, 3)),
        st.sampled_from([0.0, 0.0, 1.25 * DAY]),
    ),
    one(go_on),
    one(begin),
    st.tuples(st.just(end), st.sampled_from([0.0, 0.4, -0.4, -DAY])),
    one(tell, told),
    one(delete),
)
gone = one(remove_item)
runs = st.tuples(st.just(run), days, days, st.booleans(), st.none() | st.integers(0, 60))


def settle(history: History, name: str = "lake") -> Lake:
    """Run over everything, undisturbed."""
    history.reader(DAYS, name).load()
    return synced(history, name)


def synced(history: History, name: str = "lake", *, full: bool = False) -> Lake:
    """Sync everything, undisturbed: its usage is loaded already."""
    reader = history.reader(DAYS, name)
    reader.sync(full=full)
    derive.finish(reader.lake)
    return reader.lake


@contextmanager
def history_of(deeds: list[Deed]) -> Iterator[History]:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmulatorServer(World(keys=KEYS, clock=(clock := ManualClock(MIDNIGHT + PASSES)))) as server,
    ):
        history = History(server, Path(folder), clock)
        for work, *more in deeds:
            work(history, *more)
            history.clock.advance(PASSES)
        history.clock.now = NOW
        yield history


@settings(max_examples=9, deadline=None)
@given(deeds=st.lists(st.one_of(kept, kept, runs), min_size=4, max_size=14))
def test_any_history_of_runs_ends_in_what_one_reading_of_everything_gives(
    deeds: list[Deed],
) -> None:
    with history_of(deeds) as history:
        history.reader(DAYS, "fresh").load()
        lake, fresh = settle(history), synced(history, "fresh", full=True)
        assert rows_of(lake, RECORDS) == rows_of(fresh, RECORDS)
        assert rows_of(lake, DERIVED) == rows_of(fresh, DERIVED)
        catalog = build_catalog(lake, history.folder / "usage.duckdb")
        assert verify(lake, catalog).problems == ()


@settings(max_examples=6, deadline=None)
@given(deeds=st.lists(st.one_of(kept, gone, runs), min_size=4, max_size=14))
def test_reading_everything_again_finds_nothing_that_was_missed(deeds: list[Deed]) -> None:
    with history_of(deeds) as history:
        lake = settle(history)
        before = rows_of(lake, RECORDS + DERIVED)
        assert rows_of(synced(history, full=True), RECORDS + DERIVED) == before
