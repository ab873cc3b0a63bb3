"""Walks over conversations that move meanwhile: what existed at the start is there at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.api import Conversation, ConversationsQuery, PagingError, Refused
from pipeline.api.client import Answer
from pipeline.api.fields import ListPage
from pipeline.api.list_walk import TOUCHES, ConversationWalk
from tests.api.list_model import MovingList, Unknown

QUERY = ConversationsQuery()


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def read(walk: ConversationWalk) -> list[Conversation]:
    async def work() -> list[Conversation]:
        return [row async for page in walk.pages() for row in page]

    return asyncio.run(work())


class Churn:
    """Touches between any two requests: at most `most`, the cursor's own conversation for one."""

    def __init__(self, there: MovingList, seed: int, most: int, rate: float = 1.0) -> None:
        self.dice = Random(seed)
        self.there, self.most, self.rate = there, most, rate
        self.created = 0

    def __call__(self, cursor: str | None) -> None:
        if self.dice.random() >= self.rate:
            return
        for _ in range(self.dice.randint(1, self.most)):
            if not self.there.rows:
                return
            match self.dice.randrange(8):
                case 0:
                    self.created += 1
                    self.there.create(f"new{self.created}")
                case 1 | 2 | 3 if cursor is not None:
                    self.there.touch(cursor)
                case 4:  # what comes next, so that it is gone from where it is about to be read
                    place = self.there.rows.index(cursor) if cursor in self.there.rows else 0
                    self.there.touch(self.there.rows[max(0, place - 1)])
                case _:
                    self.there.touch(self.dice.choice(self.there.rows))


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 400),
    seed=st.integers(0, 2**32),
    most=st.integers(1, TOUCHES),
    clamp=st.sampled_from([50, 50, 50, 60]),
)
def test_a_walk_returns_every_conversation_that_existed_when_it_began(
    count: int, seed: int, most: int, clamp: int
) -> None:
    there = MovingList(names(count), clamp=clamp)
    there.meddle = Churn(there, seed, most)
    walk = ConversationWalk(there.fetch, QUERY)
    returned = {row.id for row in read(walk)}
    assert returned >= set(names(count))
    assert set(walk.order) == returned
    assert walk.complete
    assert walk.moved == walk.order


@settings(max_examples=100, deadline=None)
@given(count=st.integers(0, 120), seed=st.integers(0, 2**32), clamp=st.integers(1, 49))
def test_a_server_that_gives_fewer_than_asked_for_loses_nothing_either(
    count: int, seed: int, clamp: int
) -> None:
    there = MovingList(names(count), clamp=clamp)
    if clamp >= 10:
        there.meddle = Churn(there, seed, min(clamp // 10, TOUCHES))
    assert {row.id for row in read(ConversationWalk(there.fetch, QUERY))} >= set(names(count))


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 300),
    seed=st.integers(0, 2**32),
    unknown=st.sampled_from([400, 404, 410, 422, "beginning", "empty"]),
)
def test_conversations_that_vanish_in_mid_walk_take_no_others_with_them(
    count: int, seed: int, unknown: Unknown
) -> None:
    there = MovingList(names(count), unknown=unknown)
    dice, gone = Random(seed), set[str]()

    def vanish(cursor: str | None) -> None:
        for name in (cursor, dice.choice(there.rows) if there.rows else None):
            if name is not None and dice.random() < 0.3:
                there.remove(name)
                gone.add(name)

    there.meddle = vanish
    returned = {row.id for row in read(ConversationWalk(there.fetch, QUERY))}
    assert returned >= set(names(count)) - gone


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_200_walks_under_churn_lose_nothing(rate: float) -> None:
    everything = set(names(1030))
    lost = spent = plain_lost = plain_spent = 0
    for seed in range(200):
        there = MovingList(names(1030))
        there.meddle = Churn(there, seed, 1, rate)
        lost += len(everything - {row.id for row in read(ConversationWalk(there.fetch, QUERY))})
        spent += there.requests
        plain = MovingList(names(1030))
        plain.meddle = Churn(plain, seed, 1, rate)
        plain_lost += len(everything - plain_walk(plain))
        plain_spent += plain.requests
    print(
        f"\n{rate:.0%} of pages touched, 1,030 conversations, 200 walks: "
        f"lost {lost} in {spent / 200:.1f} requests a walk; "
        f"a plain walk lost {plain_lost / 200:.0f} each in {plain_spent / 200:.1f}"
    )
    assert lost == 0
    assert plain_lost > 0
    assert spent / 200 < 60


def plain_walk(there: MovingList) -> set[str]:
    """What following `after` in ascending order brings, to the first page without more."""

    async def work() -> set[str]:
        found, query = set[str](), ConversationsQuery(order="asc")
        while True:
            page = (await there.fetch(query)).value
            found |= {row.id for row in page.rows}
            if not page.has_more:
                return found
            query = ConversationsQuery(order="asc", after=page.rows[-1].id)

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("count", "requests"), [(0, 1), (1, 1), (50, 1), (51, 3), (500, 11), (1030, 25), (5000, 114)]
)
def test_what_a_quiet_walk_costs(count: int, requests: int) -> None:
    there = MovingList(names(count))
    read(ConversationWalk(there.fetch, QUERY))
    assert there.requests == requests


def test_a_conversation_that_says_something_else_when_it_is_read_again_is_passed_on_again() -> None:
    there = MovingList(names(60))
    asked = iter([None, "c59"])
    there.meddle = lambda cursor: there.touch(next(asked, None) or "")
    rows = read(ConversationWalk(there.fetch, QUERY))
    assert [row.metadata for row in rows if row.id == "c59"] == ["0", "1"]


def again(there: MovingList, known: Sequence[str], expect_new: int = 0) -> ConversationWalk:
    there.requests = 0
    walk = ConversationWalk(there.fetch, QUERY, known=known, expect_new=expect_new)
    read(walk)
    return walk


def test_nothing_touched_costs_one_request() -> None:
    there = MovingList(names(1030))
    first = again(there, [])
    second = again(there, first.order)
    assert (there.requests, second.moved, second.complete) == (1, [], False)
    assert second.order == first.order == names(1030)[::-1]


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 400),
    touched=st.lists(st.integers(0, 399), max_size=150),
    new=st.integers(0, 20),
    seed=st.integers(0, 2**32),
)
def test_a_later_walk_finds_what_was_touched_in_requests_that_follow_its_number(
    count: int, touched: list[int], new: int, seed: int
) -> None:
    there = MovingList(names(count))
    known = again(there, []).order
    todo = [f"c{number % count}" for number in touched] + [f"new{number}" for number in range(new)]
    Random(seed).shuffle(todo)
    for name in todo:
        if name.startswith("new"):
            there.create(name)
        else:
            there.touch(name)
    walk = again(there, known, expect_new=new)
    assert there.requests <= (len(set(todo)) // 50 + 1) * 1.25 + 2
    assert {name for name in todo if name.startswith("new")} <= set(walk.moved)
    assert walk.order == there.rows[::-1]
    # The touched ones are at the head; those that the order does not show keep their known order.
    unseen = [name for name in walk.order if name in set(todo) - set(walk.moved)]
    assert unseen == [name for name in known if name in unseen]
    assert set(walk.moved) <= set(todo)


def test_new_ones_behind_others_touched_in_their_known_order_are_found_when_usage_counts_them() -> (
    None
):
    there = MovingList(names(200))
    known = again(there, []).order
    there.create("hidden")
    for name in known[:100][::-1]:  # as a job does that goes through the list and updates each
        there.touch(name)
    assert "hidden" not in again(there, known).order
    assert "hidden" in again(there, known, expect_new=1).moved


def test_what_has_vanished_is_not_in_the_order_of_a_complete_walk() -> None:
    there = MovingList(names(120))
    known = again(there, []).order
    there.remove("c100")
    walk = again(there, known)
    assert walk.complete
    assert walk.order == there.rows[::-1]
    assert walk.moved == []


@pytest.mark.parametrize(
    ("pages", "complaint"),
    [
        ([([], True)], "holds nothing"),
        ([(["a", "a"], False)], "twice"),
        ([(["a", "b"], True), (["b"], True)], "the page that follows it"),
    ],
)
def test_pages_that_contradict_each_other_end_the_walk(
    pages: list[tuple[list[str], bool]], complaint: str
) -> None:
    served = iter(pages)

    async def fetch(_: ConversationsQuery) -> Answer[ListPage[Conversation]]:
        rows, more = next(served)
        return Answer(ListPage([Conversation(row, 0.0) for row in rows], more), 0, 0.0)

    with pytest.raises(PagingError, match=complaint):
        read(ConversationWalk(fetch, QUERY))


def test_whoever_may_touch_any_number_between_two_requests_can_hide_a_row_from_every_walk() -> None:
    there = MovingList(names(300))

    def hide(cursor: str | None) -> None:
        """Bring c7 before the cursor, and to the far end where there is none."""
        order = [name for name in there.rows if name != "c7"]
        order.insert(0 if cursor is None else order.index(cursor) + 1, "c7")
        for name in order:
            there.touch(name)

    there.meddle = hide
    assert {row.id for row in read(ConversationWalk(there.fetch, QUERY))} == {*names(300)} - {"c7"}


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_a_server_that_knows_no_cursor_is_an_error_in_few_requests(status: int) -> None:
    asked: list[str | None] = []

    async def fetch(query: ConversationsQuery) -> Answer[ListPage[Conversation]]:
        asked.append(query.after)
        if query.after is not None:
            raise Refused(f"{status}: unknown cursor", status)
        return Answer(ListPage([Conversation(row, 0.0) for row in names(50)], True), 0, 0.0)

    with pytest.raises(PagingError, match=f"refuses a cursor that it lists: {status}: unknown"):
        read(ConversationWalk(fetch, QUERY))
    assert len(asked) < 40


def test_a_first_page_that_is_refused_is_a_refusal() -> None:
    async def fetch(_: ConversationsQuery) -> Answer[ListPage[Conversation]]:
        raise Refused("no such user", 404)

    with pytest.raises(Refused):
        read(ConversationWalk(fetch, QUERY))
