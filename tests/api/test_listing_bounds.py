"""The edges of what walks promise: short pages, chance orders, refused cursors, the emulator."""

from __future__ import annotations

import asyncio
from random import Random
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.api import Conversation, ConversationsQuery, Item, ItemsQuery
from pipeline.api.client import Answer
from pipeline.api.conversations import decode_conversations
from pipeline.api.fields import ListPage
from pipeline.api.items import decode_items
from pipeline.api.list_walk import ConversationWalk, ListWalk
from pipeline.emulator import Faults, ManualClock, World
from pipeline.emulator.faults import FaultPlan
from pipeline.emulator.listings import list_conversations, list_items
from tests.api.list_model import MovingList

SAID = {"type": "message", "role": "user", "content": "said"}


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def read(walk: ConversationWalk) -> set[str]:
    async def work() -> set[str]:
        return {row.id async for page in walk.pages() for row in page}

    return asyncio.run(work())


@given(
    count=st.integers(0, 200),
    clamp=st.sampled_from([3, 4, 5, 7, 10, 20, 49]),
    touches=st.integers(1, 10),
    seed=st.integers(0, 2**32),
    on_cursor=st.sampled_from([0.0, 0.1, 0.3]),
    gone=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=200, deadline=None)
def test_short_pages_lose_nothing_while_a_fifth_of_one_is_touched(
    count: int, clamp: int, touches: int, seed: int, on_cursor: float, gone: float
) -> None:
    there, dice = MovingList(names(count), clamp=clamp), Random(seed)

    def meddle(cursor: str | None) -> None:
        for _ in range(dice.randint(0, min(touches, max(1, clamp // 5)))):
            if cursor is not None and cursor in there.rows and dice.random() < on_cursor:
                (there.remove if dice.random() < gone else there.touch)(cursor)
            elif there.rows:
                there.touch(dice.choice(there.rows[: dice.choice([len(there.rows), 20])]))

    there.meddle = meddle
    walk = ConversationWalk(there.fetch, ConversationsQuery(), touches=touches)
    found = read(walk)
    assert found >= set(names(count)) & set(there.rows)
    assert walk.complete


@given(cursors=st.frozensets(st.integers(1, 12), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_cursor_that_was_touched_costs_one_request(cursors: frozenset[int]) -> None:
    there = MovingList(names(500))

    def meddle(cursor: str | None) -> None:
        if there.requests in cursors and cursor is not None:
            there.touch(cursor)

    there.meddle = meddle
    assert read(ConversationWalk(there.fetch, ConversationsQuery(), touches=1)) == set(names(500))
    assert there.requests <= 10 + 1 + len(cursors)


def test_one_page_in_the_known_order_by_chance_does_not_hide_what_was_touched_behind_it() -> None:
    there = MovingList(names(300))
    first = ConversationWalk(there.fetch, ConversationsQuery())
    read(first)
    known = first.order
    there.touch(known[200])
    # The same fifty are the newest again, in another order; the last of them is where it was.
    head = known[:49][::-1]
    for name in [known[49], *head[::-1]]:
        there.touch(name)
    walk = ConversationWalk(there.fetch, ConversationsQuery(), known=known)
    read(walk)
    assert known[200] in walk.moved


class Emulated:
    """The emulator's listing of 230 conversations, without HTTP."""

    def __init__(self, touch_rate: float, seed: int) -> None:
        self.world = World(clock=ManualClock(10_000))
        self.all = {self.world.create_conversation(at, None, "key_web") for at in range(230)}
        self.items = {
            item
            for name in sorted(self.all)
            for item in self.world.add_items(name, [SAID] * 2, 230)
        }
        self.plan = FaultPlan(Faults(touch_rate=touch_rate, seed=seed))
        self.requests = 0

    async def fetch(self, query: ConversationsQuery) -> Answer[ListPage[Conversation]]:
        self.requests += 1
        raw = urlencode(query.params()).encode()
        rows = list_conversations(self.world, ("key_web", None), raw, self.plan)
        return Answer(decode_conversations(msgspec.json.encode(rows)), 0, 0.0)

    async def fetch_items(self, query: ItemsQuery) -> Answer[ListPage[Item]]:
        raw = urlencode(query.params()).encode()
        owner, name = ("key_web", None), query.conversation_id
        rows = list_items(self.world, owner, name, raw, self.plan)
        return Answer(decode_items(msgspec.json.encode(rows)), 0, 0.0)

    async def items_of(self, names: set[str]) -> set[str]:
        """The items of conversations, walked."""
        return {
            item.id
            for name in names
            async for page in ListWalk(self.fetch_items, ItemsQuery(name)).pages()
            for item in page
        }

    async def plain(self) -> set[str]:
        """What following `after` in ascending order brings."""
        found, query = set[str](), ConversationsQuery()
        while True:
            page = (await self.fetch(query)).value
            found |= {row.id for row in page.rows}
            if not page.has_more:
                return found
            query = ConversationsQuery(after=page.rows[-1].id)


@pytest.mark.parametrize("touch_rate", [pytest.param(0.2, marks=pytest.mark.slow), 0.5])
def test_of_200_walks_over_the_emulator_none_loses_a_conversation_or_an_item(
    touch_rate: float,
) -> None:
    """Every conversation's items are walked in each tenth; what plain paging loses shows in few."""
    lost = items_lost = requests = plain_lost = plain_requests = 0
    for seed in range(200):
        walked = Emulated(touch_rate, seed)
        found = read(ConversationWalk(walked.fetch, ConversationsQuery()))
        lost += len(walked.all - found)
        requests += walked.requests
        if seed % 10 == 0:
            items_lost += len(walked.items - asyncio.run(walked.items_of(found)))
            plain = Emulated(touch_rate, seed)
            plain_lost += len(plain.all - asyncio.run(plain.plain()))
            plain_requests += plain.requests
    print(
        f"{touch_rate:.0%}: {lost} lost in {requests / 200:.1f} requests a walk; "
        f"ascending: {plain_lost} lost in {plain_requests / 20:.1f}"
    )
    assert (lost, items_lost) == (0, 0)
    assert plain_lost > 0
    assert requests / 200 < 5 + 4
