"""Reports as pages: each made once, in a thread, and kept for as long as the lake is the same.

Belongs here: when a page is made, by whom, and for how long it is right. A page is right while
every day has the version that it was made from, prices, budgets and names are the same files, and
nothing was pulled since. At most one is made of a question at a time; who asks meanwhile waits for
that one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

import duckdb
import pyarrow as pa

from pipeline.lake.files import ContractError
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.names.file import Names, NamesOfNow
from pipeline.pricing.budgets import load_budgets
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import load_prices
from pipeline.report.choices import choices
from pipeline.report.drawing_process import DrawingError
from pipeline.report.figures import Figures, NothingToReportError, PeriodError, read
from pipeline.serve import live
from pipeline.serve.live import Problem
from pipeline.serve.page_question import NoQuestion, Question
from pipeline.serve.seen import Mark, Seen, mark
from pipeline.settings import Settings
from pipeline.terminal import say

Asked: TypeAlias = Question | NoQuestion
KEPT_PAGES: Final = 32 << 20
"""Bytes of pages that are kept at most."""
MAKERS: Final = 2
"""Pages that are made at once: each takes a processor."""
MOST_UNDER_WAY: Final = 32
"""Pages that are made or wait for it at most."""

_UNREADABLE: Final = Problem(
    "The lake cannot be read", "`mka1-usage verify` names the files to blame."
)
_EMPTY: Final = Problem(
    "Nothing is loaded yet",
    "Load days with `mka1-usage run`, then reload this page. `mka1-usage demo` shows what it would "
    "look like, on a made-up week.",
)
_TOO_MUCH: Final = Problem(
    "This takes more memory than the server has", "Ask for fewer days, by From and Through."
)
_WRONG_LIST: Final = Problem(
    "The price list, the budgets or the names cannot be read",
    "`mka1-usage prices check`, `mka1-usage budgets` and `mka1-usage names check` say what is "
    "wrong in which line.",
)
_OTHER_IDS: Final = Problem(
    "The budgets cannot be counted",
    "One is of a user, and the lake has user ids of another kind than the server: start it with "
    "the MKA1_USAGE_PSEUDONYM_KEY that the lake was loaded with.",
)
_NO_CHARTS: Final = Problem("The charts cannot be drawn", "Reload this page.")
_NO_ANSWER: Final = "This cannot be answered"
_FAILURES: Final[Mapping[type[Exception], tuple[int, Problem]]] = {
    duckdb.OutOfMemoryException: (503, _TOO_MUCH),
    DrawingError: (500, _NO_CHARTS),
    HandWrittenError: (500, _WRONG_LIST),
    UserIdModeError: (500, _OTHER_IDS),
    **dict.fromkeys((OSError, ContractError, duckdb.Error, pa.ArrowException), (500, _UNREADABLE)),
}
"""The first kind that an error is of says which page it makes; the operator gets the error."""


class TooManyError(Exception):
    """More pages are asked for than can be made soon."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page as HTML, with its status and the tag that stands for its content."""

    content: bytes
    status: int = 200

    @property
    def etag(self) -> str:
        return f'"{blake2b(self.content, digest_size=16).hexdigest()}"'


@dataclass(frozen=True, slots=True)
class _State:
    """What a page is made from: the lake, what people wrote, and when the lake was copied."""

    seen: Seen
    files: tuple[Mark, ...]
    copied_at: float | None


@dataclass(frozen=True, slots=True)
class _Kept:
    page: Page
    etag: str
    state: _State


class Pages:
    """The pages of a lake. To be used from one event loop; `close` it at the end.

    `pulled_at` says when it was pulled (Unix seconds), where it is a copy.
    """

    def __init__(
        self,
        settings: Settings,
        lake: Lake,
        names: NamesOfNow,
        pulled_at: Callable[[], float | None] = lambda: None,
        kept_bytes: int = KEPT_PAGES,
    ) -> None:
        self._pulled_at = pulled_at
        self._settings = settings
        self._lake = lake
        self._names = names
        self._most = kept_bytes
        self._kept: OrderedDict[Asked, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._under_way: dict[Asked, asyncio.Future[_Kept]] = {}
        self._threads = ThreadPoolExecutor(MAKERS, thread_name_prefix="pages")
        # What is wrong with an address is said at once, also while pages are made.
        self._refusals = ThreadPoolExecutor(1, thread_name_prefix="refusals")

    async def page(self, asked: Asked) -> tuple[Page, str]:
        """The page of a question as the lake is now, and its tag. TooManyError.

        Who stops waiting leaves the page to those who come later.
        """
        while True:
            kept = self._kept.get(asked)
            if kept is not None and self._is_right(kept.state):
                self._kept.move_to_end(asked)
                return kept.page, kept.etag
            begun = self._under_way.get(asked)
            made = await asyncio.shield(begun or self._begin(asked))
            # What somebody else's request began may be older than this one.
            if begun is None or self._is_right(made.state):
                return made.page, made.etag

    def close(self) -> None:
        """Begin nothing any more."""
        for pool in (self._threads, self._refusals):
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, asked: Asked) -> asyncio.Future[_Kept]:
        if len(self._under_way) >= MOST_UNDER_WAY:
            raise TooManyError
        pool = self._refusals if isinstance(asked, NoQuestion) else self._threads
        future = asyncio.get_running_loop().run_in_executor(pool, self._make, asked)
        self._under_way[asked] = future
        future.add_done_callback(lambda done: self._keep(asked, done))
        return future

    def _keep(self, asked: Asked, done: asyncio.Future[_Kept]) -> None:
        del self._under_way[asked]
        if (old := self._kept.pop(asked, None)) is not None:
            self._kept_bytes -= len(old.page.content)
        if done.cancelled() or done.exception() is not None:
            return
        made = done.result()
        if made.page.status >= 500 or len(made.page.content) > self._most:
            return
        self._kept[asked] = made
        self._kept_bytes += len(made.page.content)
        while self._kept_bytes > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.page.content)

    def _state(self) -> _State:
        return _State(Seen.whole(self._lake), self._files(), self._pulled_at())

    def _files(self) -> tuple[Mark, ...]:
        written = (self._settings.prices, self._settings.budgets, self._settings.names)
        return tuple(map(mark, written))

    def _is_right(self, state: _State) -> bool:
        return (
            state.seen.still(self._lake)
            and self._files() == state.files
            and self._pulled_at() == state.copied_at
        )

    def _make(self, asked: Asked) -> _Kept:
        """The page, from what is there now. Runs in a thread of the pool."""
        state = self._state()
        try:
            page = self._page(asked, state.copied_at)
        except tuple(_FAILURES) as error:
            status, what = next(how for kind, how in _FAILURES.items() if isinstance(error, kind))
            say(f"error: {what.heading}: {what.message} ({error})")
            page = problem_page(status, what)
        return _Kept(page, page.etag, state)

    def _page(self, asked: Asked, pulled_at: float | None) -> Page:
        try:
            return self._report(asked, pulled_at)
        except PeriodError as error:
            return self._refusal(400, Problem(_NO_ANSWER, str(error)), asked)
        except NothingToReportError as error:
            return self._refusal(404, Problem("There is nothing to report", str(error)), asked)

    def _report(self, asked: Asked, pulled_at: float | None) -> Page:
        if isinstance(asked, NoQuestion):
            return self._refusal(400, Problem(_NO_ANSWER, asked.why), asked)
        names = self._names()
        found = self._figures(asked, names)
        offered = choices(self._lake, found.period, names)
        html = live.report(
            found, asked, offered, pulled_at=pulled_at, pseudonyms=self._has_pseudonyms
        )
        return Page(html.encode())

    def _figures(self, asked: Question, names: Names) -> Figures:
        prices = load_prices(self._settings)
        return read(
            self._lake,
            asked.first,
            asked.last,
            asked.zone,
            prices,
            load_budgets(self._settings, prices),
            self._settings.pseudonyms,
            names,
            only=asked.only,
            days=asked.days,
        )

    def _refusal(self, status: int, what: Problem, asked: Asked) -> Page:
        """A page that keeps the form, where there is anything to ask for."""
        offered = choices(self._lake, None, self._names())
        if offered.first is None:
            return problem_page(*((500, _UNREADABLE) if offered.damaged else (404, _EMPTY)))
        html = live.problem(what, asked.fields, offered, pseudonyms=self._has_pseudonyms)
        return Page(html.encode(), status)

    @property
    def _has_pseudonyms(self) -> bool:
        return self._settings.pseudonyms is not None


def problem_page(status: int, what: Problem) -> Page:
    """A page without a form: another question has no other answer."""
    return Page(live.problem(what).encode(), status)
