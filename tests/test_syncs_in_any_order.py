"""Whatever happens in between, the records end up as one undisturbed reading of everything has them.

Histories are made up: talk, edits, deletions, times of creation that are told anew, and runs over
any days that end at any step of publishing. The emulator counts by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.lake import derived, publication
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.timeline import DAY, day_window
from tests.synced import Reader

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
MIDNIGHT = day_window(FIRST).start
NOW = MIDNIGHT + 12 * DAY
USERS = ("ada", "bob", None)
KEYS = ("key_web", "key_mobile")
RECORDS = ("conversations", "responses", "items")
DERIVED = ("observed_1m", "observed_1h", "observed_1d", "reconciliation")
WHEN = {"first_seen_at", "last_seen_at"}

Deed = Callable[["History"], None]


@dataclass
class History:
    """A world, and a lake that runs are made over."""

    server: EmulatorServer
    folder: Path
    conversations: list[str] = field(default_factory=list[str])
    running: list[str] = field(default_factory=list[str])

    @property
    def world(self) -> World:
        """What there is to be read."""
        return self.server.world

    def reader(self, days: list[date], name: str = "lake") -> Reader:
        """Runs over these days."""
        return Reader(self.server, Lake(self.folder / name), days)


def said(text: str) -> dict[str, object]:
    return {"type": "message", "role": "user", "content": text}


def talk(day: int, user: str | None, key: str, turns: int) -> Deed:
    def deed(history: History) -> None:
        at = MIDNIGHT + day * DAY + 3_600
        name = history.world.create_conversation(at, user, key)
        history.conversations.append(name)
        for turn in range(turns):
            history.world.add_response(name, at + 60 * turn, [said("q"), said("a")])

    return deed


def of_one(work: Callable[[History, str], None], which: int) -> Deed:
    """Something that is done to a conversation, where there is one."""

    def deed(history: History) -> None:
        if history.conversations:
            work(history, history.conversations[which % len(history.conversations)])

    return deed


def go_on(day: int) -> Callable[[History, str], None]:
    def work(history: History, name: str) -> None:
        history.world.add_response(name, MIDNIGHT + day * DAY + 7_200, [said("more")])

    return work


def begin(day: int) -> Callable[[History, str], None]:
    """A response that runs: just before midnight, so that it may end on another day."""

    def work(history: History, name: str) -> None:
        at = MIDNIGHT + (day + 1) * DAY - 0.4
        ends = NOW + DAY
        history.running.append(
            history.world.add_response(name, at, [said("slow")], finished_at=ends)
        )

    return work


def end(moves: float) -> Deed:
    def deed(history: History) -> None:
        if history.running:
            name = history.running.pop(0)
            told = next(one for one in history.world.all_responses() if one.id == name)
            history.world.finish_response(name, told.created_at + moves)

    return deed


def tell(day: float) -> Callable[[History, str], None]:
    def work(history: History, name: str) -> None:
        history.world.tell_created_at(name, MIDNIGHT + day * DAY)

    return work


def delete(history: History, name: str) -> None:
    history.world.delete_conversation(name)


def remove_item(history: History, name: str) -> None:
    conversation = history.world.conversation(name)
    assert conversation is not None
    if conversation.items:
        history.world.remove_item(name, conversation.items[-1].id)


def run(first: int, last: int, full: bool, steps: int | None) -> Deed:
    """A run over some days; it ends at a step of publishing, or goes through."""

    def deed(history: History) -> None:
        reader = history.reader(DAYS[min(first, last) : max(first, last) + 1])
        reader.load()
        with stopped(steps):
            reader.sync(full=full)

    return deed


@contextmanager
def stopped(steps: int | None) -> Iterator[None]:
    """End what goes on at its so manieth step that changes what counts, as a kill does."""
    with pytest.MonkeyPatch.context() as patch:
        left = -1 if steps is None else steps

        def stop(step: Callable[..., None]) -> Callable[..., None]:
            def stopping(*arguments: object) -> None:
                nonlocal left
                if not left:
                    raise KeyboardInterrupt
                left -= 1
                step(*arguments)

            return stopping

        for name in ("_make_them_count", "_make_it_count", "_link"):
            patch.setattr(publication, name, stop(getattr(publication, name)))
        try:
            yield
        except KeyboardInterrupt:
            assert steps is not None


days = st.integers(0, len(DAYS) - 1)
which = st.integers(0, 5)
kept = st.one_of(
    st.builds(talk, days, st.sampled_from(USERS), st.sampled_from(KEYS), st.integers(0, 3)),
    st.builds(of_one, st.builds(go_on, days), which),
    st.builds(of_one, st.builds(begin, days), which),
    st.builds(end, st.sampled_from([0.0, 0.4, 0.4, -DAY, DAY])),
    st.builds(of_one, st.builds(tell, st.sampled_from([0.5, 1.5, 2.5, -19_723.0, 9e4])), which),
    st.builds(of_one, st.just(delete), which),
)
gone = st.builds(of_one, st.just(remove_item), which)
runs = st.builds(run, days, days, st.booleans(), st.none() | st.integers(0, 60))


def tables(lake: Lake, names: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Rows without when they were seen, in an order of their own."""
    reader_rows = Reader.rows
    found = {name: reader_rows(Reader(None, lake, DAYS), name) for name in names}  # type: ignore[arg-type]
    return {
        name: sorted(({k: v for k, v in row.items() if k not in WHEN} for row in rows), key=repr)
        for name, rows in found.items()
    }


def settle(history: History, name: str = "lake", *, full: bool = False) -> Lake:
    """Run over everything, undisturbed."""
    reader = history.reader(DAYS, name)
    reader.load()
    reader.sync(full=full)
    derived.finish(reader.lake)
    return reader.lake


@contextmanager
def history_of(deeds: list[Deed]) -> Iterator[History]:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmulatorServer(World(keys=KEYS, clock=ManualClock(NOW))) as server,
    ):
        history = History(server, Path(folder))
        for deed in deeds:
            deed(history)
        yield history


@settings(max_examples=12, deadline=None)
@given(deeds=st.lists(st.one_of(kept, kept, runs), min_size=4, max_size=14))
def test_any_history_of_runs_ends_in_what_one_reading_of_everything_gives(
    deeds: list[Deed],
) -> None:
    with history_of(deeds) as history:
        lake, fresh = settle(history), settle(history, "fresh", full=True)
        assert tables(lake, RECORDS) == tables(fresh, RECORDS)
        assert tables(lake, DERIVED) == tables(fresh, DERIVED)
        catalog = build_catalog(lake, history.folder / "usage.duckdb")
        assert verify(lake, catalog).problems == ()


@settings(max_examples=8, deadline=None)
@given(deeds=st.lists(st.one_of(kept, gone, runs), min_size=4, max_size=14))
def test_reading_everything_again_finds_nothing_that_was_missed(deeds: list[Deed]) -> None:
    with history_of(deeds) as history:
        lake = settle(history)
        before = tables(lake, RECORDS + DERIVED)
        assert tables(settle(history, full=True), RECORDS + DERIVED) == before
