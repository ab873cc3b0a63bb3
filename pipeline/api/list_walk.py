"""Walks over conversations, items and responses that lose nothing, whatever moves meanwhile.

Belongs here: following cursors through lists. docs/api.md, "A list that moves while it is read",
has the argument why nothing is lost, and under which bound.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Final, Generic, TypeVar

from pipeline.api.client import Answer
from pipeline.api.conversations import MAX_LIMIT, Conversation, ConversationsQuery
from pipeline.api.errors import PagingError, Refused
from pipeline.api.fields import ListPage
from pipeline.api.items import Item, ItemsQuery
from pipeline.api.responses import Response, ResponsesQuery
from pipeline.api.unicode import is_sendable

Query = TypeVar("Query", ItemsQuery, ResponsesQuery)
Row = TypeVar("Row", Item, Response)
AnyQuery = TypeVar("AnyQuery", ConversationsQuery, ItemsQuery, ResponsesQuery)
AnyRow = TypeVar("AnyRow", Conversation, Item, Response)

TOUCHES: Final = 5
"""How many conversations of one listing may be touched between two requests of its walk."""

_CURSOR_REFUSED: Final = frozenset({400, 404, 410, 422})
_IN_A_ROW: Final = 10
"""So many rows in the known order show that the rest of the list is as it was known."""
_MAX_EMPTY: Final = 10
"""How many pages in a row may hold nothing, and promise more."""
_MAX_CONTRADICTIONS: Final = 3
"""How often, without anything new, rows may be listed that were not known as cursors."""
_MAX_REFUSED: Final = 10
"""After so many refused cursors in a row a pass over conversations begins anew."""
_MAX_PASSES: Final = 50
"""Far more than a listing needs that comes to rest: each is a fifth of the one before it."""


class ConversationWalk:
    """One walk over a listing of conversations; docs/api.md says what it guarantees.

    `known` are the ids of the last walk's `order`. `expect_new` is how many conversations, at
    least, must have been created since. Raises PagingError where the pages contradict each other,
    and what `fetch` raises.
    """

    def __init__(
        self,
        fetch: Callable[[ConversationsQuery], Awaitable[Answer[ListPage[Conversation]]]],
        query: ConversationsQuery,
        *,
        known: Sequence[str] = (),
        expect_new: int = 0,
        touches: int = TOUCHES,
    ) -> None:
        if query.after is not None or query.metadata is not None or query.search is not None:
            raise ValueError("a walk is over a whole listing: without cursor and filters")
        self.order: list[str] = []
        """Ids, the newest update first: what was read, then what stands as it was known."""
        self.moved: list[str] = []
        """Ids that are new, or that their place shows to have been touched; the newest first."""
        self.complete = False
        """Whether the whole list was read: a known id that is not in `order` has vanished."""
        self.requests = 0
        self._fetch = fetch
        self._query = replace(query, order="desc", limit=MAX_LIMIT)
        self._place = {name: place for place, name in enumerate(known)}
        self._expect_new = expect_new
        self._touches = touches
        self._largest_page = 0
        self._why = ""
        self._refused: set[str] = set()  # cursors, since a pass got to its goal
        self._contradictions = 0
        self._latest: dict[str, Conversation] = {}

    async def pages(self) -> AsyncIterator[list[Conversation]]:
        """Conversations as they are read; one comes again if it is served with other content."""
        read: list[str] = []
        enough = self._caught_up
        owed = 0  # requests since the last pass that got to its goal had begun
        for _ in range(_MAX_PASSES):
            before = self.requests
            one = _Pass(self._page, enough)
            async for page in one.pages():
                fresh = [row for row in page if self._latest.get(row.id) != row]
                if fresh:
                    self._latest.update((row.id, row) for row in fresh)
                    yield fresh
            read = list(dict.fromkeys([*one.rows, *one.strays, *read]))
            requests = self.requests - before
            self.complete = self.complete or one.reached_end
            if one.done:
                self._refused.clear()
                self._contradictions = 0
            if one.done and requests == 1:  # a snapshot of all that was touched meanwhile
                self._finalize(read)
                return
            if one.done:
                owed = requests
            elif not owed:
                continue  # the first pass again
            else:
                owed += requests
            enough = partial(self._deep_enough, owed, self.requests)
        raise self._paging_error(f"keeps changing: {_MAX_PASSES} passes did not come to rest")

    def _most_touched(self) -> int:
        """The bound between two requests: passes over short pages would never shrink above it."""
        least = 1 if self._largest_page > 2 else 0
        return min(self._touches, max(least, self._largest_page // 5))

    def _deep_enough(self, owed: int, begun: int, rows: Sequence[str]) -> bool:
        """Whether `rows`, read since request `begun`, hold all that moved in `owed` requests."""
        return len(rows) >= self._most_touched() * (owed + self.requests - begun - 1)

    def _caught_up(self, rows: Sequence[str]) -> bool:
        """Whether what follows is as it was known, and all that must be new has been seen."""
        last = self._place.get(rows[-1])
        if last is None:
            return False
        places = [self._place[name] for name in rows if name in self._place]
        in_place = sum(place <= last for place in places)
        if in_place < last + 1 or len(rows) - len(places) < self._expect_new:
            return False
        # A few rows may stand so by chance, with touched ones still behind them.
        end = [self._place.get(name, -1) for name in rows[-_IN_A_ROW:]]
        return len(end) == _IN_A_ROW and end[0] >= 0 and end == sorted(end)

    def _finalize(self, read: list[str]) -> None:
        self.order = list(read)
        if not self.complete:
            there = set(read)
            self.order += (name for name in self._place if name not in there)
        kept, place = len(read), len(self._place)
        while kept and self._place.get(read[kept - 1], place) < place:
            kept -= 1
            place = self._place[read[kept]]
        self.moved = read[:kept]

    async def _counted(self, query: ConversationsQuery) -> Answer[ListPage[Conversation]]:
        self.requests += 1
        return await self._fetch(query)

    async def _page(
        self, cursor: str | None, again: Collection[str]
    ) -> ListPage[Conversation] | None:
        """The page behind `cursor`, on which `again` may come again.

        None where the API does not know that cursor any more.
        """
        try:
            page = await _filled(self._counted, replace(self._query, after=cursor))
        except Refused as refusal:
            if cursor is None or refusal.status not in _CURSOR_REFUSED:
                raise
            self._refused.add(cursor)
            self._why = f"refuses a cursor that it lists: {refusal}"
            return None
        if cursor is not None and not page.rows and page.has_more is False:
            # More had been promised. Asked after every last page, passes would not get shorter.
            oldest = replace(self._query, order="asc", limit=1)
            last = (await _filled(self._counted, oldest)).rows
            if last and last[0].id != cursor and last[0].id not in self._latest:
                self._refused.add(cursor)
                self._why = "serves nothing behind a cursor that it lists"
                return None
        names = {row.id for row in page.rows}
        if cursor is None and not self._refused.isdisjoint(names):
            self._contradictions += 1
            if self._contradictions == _MAX_CONTRADICTIONS:
                raise self._paging_error(self._why)
        if len(names) < len(page.rows):
            raise self._paging_error("serves a conversation twice on one page")
        if cursor in names:
            raise self._paging_error(
                f"serves the conversation {cursor!r} on the page that follows it"
            )
        if page.has_more and names.issubset(again):
            raise self._paging_error("promises more (has_more) with a page that holds nothing")
        self._largest_page = max(self._largest_page, len(names))
        return page

    def _paging_error(self, what: str) -> PagingError:
        # Not of whom: the caller knows, and may have to keep it out of logs.
        return PagingError(
            f"asked for conversations by last update, the API {what}. Nothing of this listing "
            "counts; if it happens again, report it to MKA1 with this message."
        )


class _Pass:
    """One pass from the head until `enough` rows have been read in their order, or to the end."""

    def __init__(
        self,
        page: Callable[[str | None, Collection[str]], Awaitable[ListPage[Conversation] | None]],
        enough: Callable[[Sequence[str]], bool],
    ) -> None:
        self.rows: list[str] = []
        """Ids as they follow each other."""
        self.strays: dict[str, None] = {}
        """Ids from pages behind cursors that had been touched: not read in their place."""
        self.reached_end = False
        self.done = False
        """Whether it got to its goal, as opposed to having no cursor left."""
        self._page = page
        self._enough = enough

    async def pages(self) -> AsyncIterator[list[Conversation]]:
        """Every page that is read, those behind cursors that had been touched too."""
        cursors: list[str | None] = [None]  # the next one to try is the last
        refused = 0
        while cursors and refused < _MAX_REFUSED:
            cursor, in_place, end = cursors.pop(), set(self.rows), set(_unsendable_end(self.rows))
            page = await self._page(cursor, end)
            if page is None:
                refused += 1
                continue
            refused = 0
            # Rows between this cursor and the next can't be cursors, so they come again.
            behind = self.rows if cursor is None else self.rows[self.rows.index(cursor) + 1 :]
            again = {name for name in behind if not is_sendable(name)}
            names = [row.id for row in page.rows if row.id not in again]
            if page.rows and not names and again != end:
                yield page.rows  # it does not reach behind what is read
                continue
            # Strays show nothing: the last one may be the next row of the pass, read too early.
            moved = not in_place.isdisjoint(names)
            if moved:
                self.strays |= dict.fromkeys(name for name in names if name not in in_place)
            else:
                self.rows += names
            yield page.rows
            # Behind any returned row, wherever it is now, is all that was not touched.
            self.reached_end = not _goes_on(page.has_more, names)
            if page.has_more is None and not any(map(is_sendable, self.rows)):
                self.reached_end = True  # nothing says that there is more, and nothing leads there
            self.done = self.reached_end or (not moved and self._enough(self.rows))
            if self.done:
                return
            if not moved:
                cursors = [name for name in self.rows if is_sendable(name)]


class ListWalk(Generic[Query, Row]):
    """One walk over a list whose rows keep their order; docs/api.md has its argument.

    It returns the rows behind `query.after`, the oldest first, none of them twice. Raises
    PagingError where the pages contradict each other, and what `fetch` raises. It raises Refused
    for a request without a cursor only: with 404, the conversation is gone.
    """

    def __init__(
        self, fetch: Callable[[Query], Awaitable[Answer[ListPage[Row]]]], query: Query
    ) -> None:
        self.order: list[str] = []
        """Ids as they follow each other in the list, without those seen to have vanished."""
        self._fetch: Callable[[Query], Awaitable[Answer[ListPage[Row]]]] = fetch
        self._query: Query = replace(query, order="asc")
        self._what = _what(query)
        self._start = query.after
        self._in_order: set[str] = set()
        self._returned: set[str] = set()
        self._gone: dict[str, str] = {}  # cursors since the last new row, and what came instead
        self._step = 1
        self._contradictions = 0

    @property
    def whole(self) -> bool:
        """Whether the list was read from its beginning: `order` is then all that it holds."""
        return self._start is None

    @property
    def cursor(self) -> str | None:
        """The row after which the next walk goes on; None for the beginning of the list."""
        return next(filter(is_sendable, reversed(self.order)), self._start)

    async def pages(self) -> AsyncIterator[list[Row]]:
        """The rows as they are read."""
        while True:
            cursor, again = self.cursor, _unsendable_end(self.order)
            self._shorten(len(again))
            page = await self._page(cursor)
            if page is None:
                self._step_back()
                continue
            new = [row for row in page.rows if row.id not in self._returned]
            names = [row.id for row in page.rows]
            self.order += names
            self._in_order.update(names)
            self._returned.update(names)
            self._judge(names, progress=bool(new))
            if new:
                yield new
            behind = [name for name in names if name not in again]
            if page.has_more and not behind:
                raise self._paging_error(
                    repr(cursor), "promises more (has_more) with a page that holds nothing"
                )
            if not _goes_on(page.has_more, behind):
                return

    async def _page(self, cursor: str | None) -> ListPage[Row] | None:
        """The page behind `cursor`; None where the API does not know that cursor any more."""
        try:
            page = await _filled(self._fetch, replace(self._query, after=cursor))
        except Refused as refusal:
            if cursor is None or refusal.status not in _CURSOR_REFUSED:
                raise
            self._gone[cursor] = f"refuses that cursor: {refusal}"
            return None
        names = {row.id for row in page.rows}
        if len(names) < len(page.rows):
            raise self._paging_error(repr(cursor), "serves one twice")
        if cursor is None:
            return page
        if cursor in names or not names.isdisjoint(self._in_order):
            self._gone[cursor] = "serves what it had served before that"
            if not self.whole:  # the list's beginning may stand in the order, behind what is newer
                self._shorten(len(self.order))
            return None
        if not names and not page.has_more and not await self._is_end(cursor):
            self._gone[cursor] = "serves nothing, though newer ones are there"
            return None
        return page

    async def _is_end(self, cursor: str) -> bool:
        """Whether the newest row of the list is none that follows the order.

        One that was returned may follow it: the order is shortened where the walk steps back.
        """
        newest = replace(self._query, order="desc", after=None, limit=1)
        rows = (await _filled(self._fetch, newest)).rows
        return not rows or rows[0].id == cursor or rows[0].id in self._in_order

    def _judge(self, names: Sequence[str], *, progress: bool) -> None:
        """PagingError where rows are listed again and again that were no cursors."""
        listed = [name for name in names if name in self._gone]
        if progress:
            self._gone.clear()
            self._contradictions = 0
        if progress or not listed:
            self._step = 1
            return
        self._contradictions += 1
        if self._contradictions == _MAX_CONTRADICTIONS:
            raise self._paging_error(f"{listed[-1]!r}, which it lists,", self._gone[listed[-1]])

    def _step_back(self) -> None:
        """Make an earlier row the cursor, in the end the beginning of the list."""
        if not self.order:
            self._start = None
            self._gone.clear()
        self._shorten(self._step)
        self._step *= 2

    def _shorten(self, rows: int) -> None:
        """Take so many rows from the end of the order, at most."""
        keep = max(0, len(self.order) - rows)
        self._in_order.difference_update(self.order[keep:])
        del self.order[keep:]

    def _paging_error(self, cursor: str, problem: str) -> PagingError:
        return PagingError(
            f"asked for the {self._what} behind {cursor} the API {problem}. Nothing of this "
            "listing counts; if it happens again, report it to MKA1 with this message."
        )


def _what(query: ItemsQuery | ResponsesQuery) -> str:
    if isinstance(query, ItemsQuery):
        return f"items of {query.conversation_id!r}"
    return "responses"


async def _filled(
    fetch: Callable[[AnyQuery], Awaitable[Answer[ListPage[AnyRow]]]], query: AnyQuery
) -> ListPage[AnyRow]:
    """A page; where it holds nothing and promises more, the one that its last_id leads to."""
    page = (await fetch(query)).value
    followed = {query.after}
    while not page.rows and page.has_more and len(followed) <= _MAX_EMPTY:
        if page.last_id is None or page.last_id in followed or not is_sendable(page.last_id):
            break
        followed.add(page.last_id)
        try:
            page = (await fetch(replace(query, after=page.last_id))).value
        except Refused as refusal:
            if refusal.status not in _CURSOR_REFUSED:
                raise
            break
    return page


def _goes_on(has_more: bool | None, names: Sequence[str]) -> bool:
    """Whether there may be more: a page that does not say so is the last if it is empty."""
    return bool(names) if has_more is None else has_more


def _unsendable_end(names: Sequence[str]) -> list[str]:
    """The last ids that can't be sent: they come again behind the cursor before them."""
    return list(takewhile(lambda name: not is_sendable(name), reversed(names)))
