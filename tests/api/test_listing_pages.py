"""What a server may leave out of the pages of a list, or put into them, costs no row."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.api import (
    Conversation,
    ConversationsQuery,
    Item,
    ItemsQuery,
    PagingError,
    Refused,
    Response,
    ResponsesQuery,
    is_sendable,
)
from pipeline.api.client import Answer
from pipeline.api.fields import ListPage
from pipeline.api.list_walk import ConversationWalk, ListWalk
from tests.api.list_model import MovingList
from tests.api.test_list_walk import Churn, read

ODD = r"\ud83d"
"""What makes an id one that no request can hold."""


@dataclass
class Listed:
    """A list that nobody touches, of any kind. Some rows are taken out of pages that are cut."""

    rows: Sequence[str]
    limit: int
    says_more: bool = True
    hidden: frozenset[str] = frozenset()
    asked: list[str | None] = field(default_factory=list[str | None])

    def _cut(
        self, query: ConversationsQuery | ItemsQuery | ResponsesQuery, default: str
    ) -> tuple[list[str], bool | None, str | None]:
        after, limit = query.after, min(query.limit, self.limit)
        self.asked.append(after)
        assert len(self.asked) < 200, "the walk has no end"
        if after is not None and after not in self.rows:
            raise Refused("unknown cursor", 400)
        rows = self.rows if query.order == default else self.rows[::-1]
        start = 0 if after is None else rows.index(after) + 1
        cut = rows[start : start + limit]
        more = start + limit < len(rows)
        there = [row for row in cut if row not in self.hidden]
        return there, more if self.says_more else None, cut[-1] if cut else None

    async def items(self, query: ItemsQuery) -> Answer[ListPage[Item]]:
        """Endpoint 3."""
        rows, more, last = self._cut(query, "asc")
        return Answer(ListPage([Item(row, None, "message") for row in rows], more, last), 0, 0.0)

    async def responses(self, query: ResponsesQuery) -> Answer[ListPage[Response]]:
        """Endpoint 5."""
        rows, more, last = self._cut(query, "asc")
        page = ListPage([Response(row, 0.0, "completed") for row in rows], more, last)
        return Answer(page, 0, 0.0)

    async def conversations(self, query: ConversationsQuery) -> Answer[ListPage[Conversation]]:
        """Endpoint 2."""
        rows, more, last = self._cut(query, "desc")
        page = ListPage([Conversation(row, 0.0) for row in rows], more, last)
        return Answer(page, 0, 0.0)

    def walk(self, kind: str) -> list[str]:
        """The ids that a walk brings."""
        walks: dict[str, Any] = {
            "items": lambda: ListWalk(self.items, ItemsQuery("c")).pages(),
            "responses": lambda: ListWalk(self.responses, ResponsesQuery()).pages(),
            "conversations": lambda: ConversationWalk(
                self.conversations, ConversationsQuery()
            ).pages(),
        }

        async def run() -> list[str]:
            return [row.id async for page in walks[kind]() for row in page]

        return asyncio.run(run())


KINDS = ("items", "responses", "conversations")


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 30])
def test_without_a_word_on_more_a_walk_goes_on_to_an_empty_page(kind: str, count: int) -> None:
    there = Listed(names(count), 3, says_more=False)
    assert there.walk(kind) == names(count)
    if kind != "conversations":  # which reads its head again
        # The first page, those behind it, and one that shows that the empty one is the end.
        assert len(there.asked) == 1 + -(-count // 3) + (count > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_whose_rows_were_all_taken_out_is_followed(kind: str) -> None:
    hidden = frozenset(names(120)[20:80])
    there = Listed(names(120), 20, hidden=hidden)
    assert there.walk(kind) == [name for name in names(120) if name not in hidden]


@pytest.mark.parametrize("kind", KINDS)
def test_so_many_empty_pages_are_followed_and_no_more(kind: str) -> None:
    there = Listed(names(100), 3, hidden=frozenset(names(60)))
    with pytest.raises(PagingError, match="holds nothing"):
        there.walk(kind)
    assert len(there.asked) < 15


@pytest.mark.parametrize("kind", KINDS)
@given(
    odd=st.lists(st.booleans(), max_size=60),
    limit=st.integers(4, 12),
    says_more=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_ids_that_no_request_can_hold_cost_no_row_beside_them(
    kind: str, odd: list[bool], limit: int, says_more: bool
) -> None:
    rows = [f"n{number}{ODD if bad else ''}" for number, bad in enumerate(odd)]
    in_a_row = "".join("x" if bad else " " for bad in odd).split()
    assume(max(map(len, in_a_row), default=0) < limit - 1)
    there = Listed(rows, limit, says_more)
    assert sorted(there.walk(kind)) == sorted(rows)
    assert all(after is None or is_sendable(after) for after in there.asked)


@pytest.mark.parametrize("kind", KINDS)
def test_more_such_ids_than_a_page_holds_are_an_error_and_no_walk_without_end(kind: str) -> None:
    there = Listed([*names(5), *(name + ODD for name in names(9)), *names(9)[6:]], 3)
    with pytest.raises(PagingError, match="holds nothing"):
        there.walk(kind)
    assert len(there.asked) < 30


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 300), seed=st.integers(0, 2**32), odd_every=st.integers(2, 40))
def test_a_list_that_moves_loses_nothing_to_ids_that_no_request_can_hold(
    count: int, seed: int, odd_every: int
) -> None:
    rows = [
        f"c{number}{ODD if number % odd_every == odd_every - 1 else ''}" for number in range(count)
    ]
    there = MovingList(rows.copy())
    there.meddle = Churn(there, seed, 5)
    walk = ConversationWalk(there.fetch, ConversationsQuery())
    assert {row.id for row in read(walk)} >= set(rows)
    assert walk.requests <= 300, "with no such id it takes some 30, and it was 36,000 once"
