"""Whenever items are dropped or kept again, syncs count what they count where all is kept."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.lake.schemas import OBSERVED_DATASETS, RECONCILIATION, RECORD_DATASETS
from pipeline.timeline import DAY
from tests.conversations.dropped import MIDNIGHT, Twins, at, clock_to, said
from tests.ended import publishing_ends
from tests.synced import rows_of

pytestmark = pytest.mark.slow

PASSES = 9.1 * 3_600
"""Seconds between two deeds: fourteen of them lie within six days."""
KEYS = ("key_web", "key_mobile")
USERS = ("ada", "bob", None)
TABLES = (*RECORD_DATASETS, *OBSERVED_DATASETS, RECONCILIATION.name)

Deed = tuple[Any, ...]
"""A function of the twins, and what it takes beside them."""


def talk(twins: Twins, user: str | None, key: str, turns: int) -> None:
    name = twins.world.create_conversation(None, user, key)
    for _ in range(turns):
        answer(twins, name)
    twins.world.touch(name)


def on_one(twins: Twins, which: int, work: Any) -> None:
    """Something is done to a conversation, where there is one; it is an operation."""
    conversations = list(twins.world.all_conversations())
    if conversations:
        one = conversations[which % len(conversations)]
        work(twins, one.id)
        twins.world.touch(one.id)
        key, user = one.owner
        twins.world.log(Event(twins.world.clock(), user, key, 0, 0, 1))


def answer(twins: Twins, name: str) -> None:
    twins.world.add_response(name, None, [said("q"), said("a")])


def add(twins: Twins, name: str) -> None:
    twins.world.add_items(name, [said("no response")])


def begin(twins: Twins, name: str) -> None:
    twins.world.add_response(name, None, [said("q")], finished_at=at(99))


def end(twins: Twins, name: str) -> None:
    for one in list(twins.world.all_responses()):
        if one.conversation_id == name and one.finished_at == at(99):
            twins.world.finish_response(one.id, one.created_at)


def delete(twins: Twins, name: str) -> None:
    twins.world.delete_conversation(name)


def remove(twins: Twins, name: str) -> None:
    conversation = twins.world.conversation(name)
    if conversation is not None and conversation.items:
        twins.world.remove_item(name, conversation.items[-1].id)


def sync(twins: Twins, full: bool) -> tuple[int, int]:
    return twins.sync(days_so_far(twins), full=full)


def drop(twins: Twins, items: int | None, steps: int | None) -> None:
    with suppress(KeyboardInterrupt), publishing_ends(steps):
        twins.prune(items)


def days_so_far(twins: Twins) -> int:
    return int((twins.world.clock() - MIDNIGHT) // DAY) + 1


done = st.sampled_from([answer, answer, add, begin, end, delete, remove])
deeds = st.one_of(
    st.tuples(st.just(talk), st.sampled_from(USERS), st.sampled_from(KEYS), st.integers(0, 2)),
    st.tuples(st.just(on_one), st.integers(0, 5), done),
    st.tuples(st.just(sync), st.booleans()),
    st.tuples(st.just(drop), st.sampled_from([0, 1, 1, None]), st.none() | st.integers(0, 12)),
)


@settings(max_examples=5, deadline=None)
@given(history=st.lists(deeds, min_size=6, max_size=14))
def test_any_history_counts_what_a_lake_counts_that_keeps_all(history: list[Deed]) -> None:
    clock = ManualClock(at(0, 1))
    with (
        tempfile.TemporaryDirectory() as folder,
        EmulatorServer(World(keys=KEYS, clock=clock)) as server,
    ):
        twins = Twins(server, Path(folder))
        again = False
        for work, *more in history:
            sent = work(twins, *more)
            assert work is not sync or again or sent[1] == sent[0]
            again = again or (work is drop and more[0] is None)
            clock.advance(PASSES)
        for full in (False, True):
            twins.sync(days_so_far(twins), full=full)
            twins.prune()
            twins.assert_same()
            clock_to(twins, clock() + DAY)
        twins.prune(None)
        twins.sync(days_so_far(twins), full=True)
        if all(remove not in deed for deed in history):  # what is gone does not come again
            keeps, drops = twins.lakes
            assert rows_of(drops, TABLES) == rows_of(keeps, TABLES)
