"""What served bodies say by the documented rules, read a second time in plain Python.

Belongs here: JSON to rows, pages to a window, and what must be refused. It shares no code with the
product: neither its decoder nor its walk. The rules are those of the contract:

- counts are JSON integers from 0 to 2^63-1, or null, or absent; an id is text, null or absent;
- what else a row holds is kept as it was sent; what else a page or bucket holds is ignored;
- a bucket is a whole minute inside the window asked for; the later serving of one counts, whole;
- a bucket that was not served is an empty one, once the pages have come to an end;
- a page that promises more brings a bucket and a new cursor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

LARGEST: Final = 2**63 - 1
IDS: Final = ("user_id", "api_key_id")
COUNTS: Final = ("num_conversations_created", "num_items_added", "num_operations")
KNOWN: Final = frozenset({*IDS, *COUNTS, "object"})
MOST_BARREN: Final = 10
"""So many pages in a row may bring nothing new; more are a walk without end."""

Row = tuple[str | None, str | None, int | None, int | None, int | None, str | None]
"""User, key, the three counts, and what else there was."""


class NotJson(Exception):
    """The body is cut or is no JSON: it may be asked for again."""


class NotAPage(Exception):
    """It is JSON, and not what the contract says."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written; one that is no whole number, or too long to be one."""

    text: str


@dataclass(slots=True)
class Page:
    """One body, read."""

    buckets: list[tuple[int, int, list[Row]]]
    has_more: bool
    next_page: str | None
    twice: bool
    """Whether a key came twice: a stricter reader may refuse it, others take the later one."""


def _whole(text: str) -> int | Number:
    return int(text) if len(text) <= 30 else Number(text)


def _not_json(constant: str) -> None:
    raise NotJson(f"{constant} is no JSON")


def parsed(text: str) -> tuple[Any, bool]:
    """JSON as Python, numbers that are no integers as they were written, and whether any key came
    twice. Raises NotJson, and NotAPage for what is nested beyond reading."""
    twice: list[str] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice.append(pairs[0][0])
        return found

    try:
        document = json.loads(
            text,
            object_pairs_hook=as_dict,
            parse_int=_whole,
            parse_float=Number,
            parse_constant=_not_json,
        )
    except ValueError as error:
        raise NotJson(str(error)) from None
    except RecursionError:
        raise NotAPage("nested too deeply") from None
    return document, bool(twice)


def page_of(body: bytes) -> Page:
    """A body of the usage endpoint. Raises NotJson or NotAPage."""
    # Bytes that are no UTF-8 become halves of surrogate pairs, to be found where they matter.
    document, twice = parsed(body.decode("utf-8", "surrogateescape"))
    page = _object(document)
    buckets: list[tuple[int, int, list[Row]]] = []
    for one in map(_object, _array(page.get("data"))):
        rows = [_row(row) for row in _array(one.get("results")) if row is not None]
        buckets.append((_second(one.get("start_time")), _second(one.get("end_time")), rows))
    has_more = page.get("has_more")
    if type(has_more) is not bool:
        raise NotAPage(f"has_more is {has_more!r:.40}")
    return Page(buckets, has_more, _text(page.get("next_page")), twice)


def is_unicode(body: bytes) -> bool:
    """Whether all text in a body is text, also in what is ignored. True for what is no JSON."""
    try:
        document = json.loads(
            body.decode("utf-8", "surrogateescape"),
            object_pairs_hook=list,  # a key that comes twice has two values
            parse_int=Number,
        )
    except (ValueError, RecursionError):
        return True
    return _is_text(json.dumps(document, ensure_ascii=False, default=repr))


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise NotAPage(f"{value!r:.40} is no object")
    return value


def _array(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise NotAPage(f"{value!r:.40} is no array")
    return value


def _second(value: Any) -> int:
    if type(value) is not int:
        raise NotAPage(f"{value!r:.40} is no second")
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise NotAPage(f"{value!r:.40} is no text")
    if value is not None and not _is_text(value):
        raise NotJson(f"{value!r:.40} is no Unicode")
    return value


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= LARGEST):
        raise NotAPage(f"{value!r:.40} is no count")
    return value


def _row(value: Any) -> Row:
    row = _object(value)
    for name in row:
        _text(name)
    _text(row.get("object"))
    user, key = (_text(row.get(name)) for name in IDS)
    created, added, operations = (_count(row.get(name)) for name in COUNTS)
    extra = {name: value for name, value in row.items() if name not in KNOWN}
    return user, key, created, added, operations, canonical(extra) if extra else None


def canonical(extra: Any) -> str:
    """JSON that is told apart by what it says alone; numbers as they were written."""
    return json.dumps(extra, sort_keys=True, default=lambda number: {"number": number.text})


def canonical_text(extra: str | None) -> str | None:
    """The same of JSON text."""
    return None if extra is None else canonical(parsed(extra)[0])


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for: a window of minutes, and a cursor."""

    start: int
    end: int
    page: str | None

    @classmethod
    def of(cls, query: bytes) -> Question:
        """From a query string."""
        asked = parse_qs(query.decode(), keep_blank_values=True, strict_parsing=True)
        return cls(
            int(asked["start_time"][0]), int(asked["end_time"][0]), asked.get("page", [None])[0]
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What was served: a status, and a body (None where it is no body at all, or more than is
    taken in)."""

    status: int
    body: bytes | None
    too_big: bool = False


@dataclass(slots=True)
class Reading:
    """All that was served of one window, taken together."""

    start: int
    end: int
    attempts: int
    """How often in a row a body that is no JSON may come for one question."""
    buckets: dict[int, list[Row]] = field(default_factory=dict[int, list[Row]])
    must_fail: str = ""
    """Why nothing of it may be published."""
    may_fail: str = ""
    """Why a stricter reader may publish nothing of it."""
    no_json: bool = False
    """Whether the last body was no JSON, and was not asked for again."""
    _covered: set[int] = field(default_factory=set[int])
    _chain: list[Page] = field(default_factory=list[Page])
    _chain_from: int = 0
    _asked: Question | None = None
    _in_a_row: int = 0

    def take(self, log: Sequence[tuple[Question, Answer]]) -> None:
        """Take in all that was asked and served, in order."""
        for number, (question, answer) in enumerate(log):
            again = log[number + 1 : number + 2]
            self._take(question, answer, bool(again) and again[0][0] == question)

    def _take(self, question: Question, answer: Answer, again: bool) -> None:
        repeated, self._asked = question == self._asked, question
        if question.page is None:
            if not repeated:
                self._break()
            self._chain, self._chain_from = [], question.start
        elif not self._chain or self._chain[-1].next_page != question.page:
            raise AssertionError(f"{question} follows no page that was served")
        if answer.status != 200:
            if question.page is None:
                self._fail("it was refused without a cursor")
            self._break()
        elif answer.too_big:
            self.may_fail = self.may_fail or "it was too big"
            self._in_a_row = 0
            self._break()
        else:
            self._read(question, answer.body, repeated, again)

    def _read(self, question: Question, body: bytes | None, repeated: bool, again: bool) -> None:
        try:
            if body is None:
                raise NotJson("no body at all")
            if not is_unicode(body):
                self.may_fail = self.may_fail or "it holds what is no text"
                if again:
                    raise NotJson("no text")
            page = page_of(body)
        except NotJson as error:
            self._in_a_row = self._in_a_row + 1 if repeated else 1
            self.no_json = not again
            if self._in_a_row == self.attempts:
                self._fail(f"{error}, again and again")
        except NotAPage as error:
            self._fail(str(error))
        else:
            self._in_a_row = 0
            self._follow(question, page)

    def _fail(self, why: str) -> None:
        self.must_fail = self.must_fail or why

    def _follow(self, question: Question, page: Page) -> None:
        if page.twice:
            self.may_fail = self.may_fail or "it says something twice"
        for start, end, rows in page.buckets:
            if not question.start <= start < question.end:
                self._fail(f"the bucket {start} is outside {question}")
            elif end - start != 60 or start % 60:
                self._fail(f"[{start}, {end}) is no minute")
            else:
                self.buckets[start] = rows
        followed = {one.next_page for one in self._chain}
        self._chain.append(page)
        if not page.has_more:
            self._covered.update(range(question.start, question.end, 60))
            self._chain = []
        elif not page.next_page:
            self._fail("more is promised without a cursor")
        elif not page.buckets:
            self._fail("more is promised without a bucket")
        elif page.next_page in followed:
            self._fail("a cursor comes twice")
        elif self._barren() == MOST_BARREN:
            self._fail("more is promised, and nothing new comes")

    def _barren(self) -> int:
        """How many of the last pages of the chain brought nothing new."""
        seen: set[int] = set()
        barren = 0
        for page in self._chain:
            starts = {start for start, _, _ in page.buckets}
            barren = barren + 1 if starts <= seen else 0
            seen |= starts
        return barren

    def _break(self) -> None:
        """A chain of pages that did not come to its end: in order, it covers all before its end."""
        starts = [start for page in self._chain for start, _, _ in page.buckets]
        if starts:
            self._covered.update(starts)
            if starts == sorted(starts):
                self._covered.update(range(self._chain_from, max(starts), 60))
        self._chain = []

    def rows(self) -> dict[int, list[Row]]:
        """The rows by minute, those without any left out. AssertionError where it can't be known
        whether a minute has any."""
        unknown = set(range(self.start, self.end, 60)) - self._covered
        assert not unknown, f"minutes were not asked for to the end: {sorted(unknown)}"
        return {start: sort(rows) for start, rows in self.buckets.items() if rows}


def sort(rows: Iterable[Row]) -> list[Row]:
    """Rows in an order that depends on nothing but them."""
    return sorted(rows, key=repr)


def added_up(buckets: Mapping[int, Iterable[Row]], width: int) -> dict[Any, tuple[Any, ...]]:
    """The sums by bucket of `width` seconds, user and key; a count that no row has is None."""
    sums: dict[Any, tuple[Any, ...]] = {}
    for start, rows in buckets.items():
        for user, key, *counts, _ in rows:
            group = (start // width * width, user, key)
            before = sums.get(group, (None, None, None))
            sums[group] = tuple(
                old if new is None else new if old is None else old + new
                for old, new in zip(before, counts, strict=True)
            )
    return sums
