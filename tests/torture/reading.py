"""What served bodies say by the documented rules, read a second time in plain Python.

Belongs here: JSON to rows, pages to a window, and what must be refused. It shares no code with the
product: neither its decoder nor its walk. The rules are those of the contract:

- counts are whole numbers from 0 to 2^63-1, however they are written, or null, or absent; an id is
  text, null or absent;
- a list that is null or absent is empty; but an object that has neither data nor `has_more`, and is
  not called a page, is none, and one that has an error may be asked for again;
- half of a surrogate pair, and a byte that is not UTF-8, is written with a backslash, an odd number
  of them in all; text that looks so has an even number;
- what else a row holds is kept as it was sent; what else a page or bucket holds is ignored;
- a bucket is a whole minute inside the window asked for; the later serving of one counts, whole;
- a bucket that was not served is an empty one, once the pages have come to an end;
- a page that promises more gives a new cursor, and so many of them bring something;
- a new cursor is followed, also where no more is promised, until that brings nothing; minutes
  outside the window are then nothing too;
- usage that comes after it was said that there is no more contradicts that.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final
from urllib.parse import parse_qs

LARGEST: Final = 2**63 - 1
IDS: Final = ("user_id", "api_key_id")
COUNTS: Final = ("num_conversations_created", "num_items_added", "num_operations")
KNOWN: Final = frozenset({*IDS, *COUNTS, "object"})
MOST_BARREN: Final = 10
"""So many pages in a row may bring nothing new; more are a walk without end."""

SAYS_WHY: Final = frozenset({"error", "errors", "fault", "message", "detail"})
"""What an object in the place of a page has where it says what went wrong."""
_STRAY_BYTE: Final = 0x10FE00
"""A byte that is not UTF-8 is this character, and as many on as the byte says, while it is read."""

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
    has_more: bool | None
    next_page: str | None
    """As it is, not as it is written."""
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


def _strays(error: UnicodeError) -> tuple[str, int]:
    """What bytes that are no UTF-8 are read as: three of them may be half of a surrogate pair."""
    assert isinstance(error, UnicodeDecodeError)
    three = error.object[error.start : error.start + 3]
    try:
        half = three.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        half = ""
    if len(half) == 1:
        return half, error.start + 3
    return chr(_STRAY_BYTE + error.object[error.start]), error.start + 1


codecs.register_error("strays", _strays)


def written(text: str) -> str:
    """The text with what is not Unicode written out."""
    if text.isascii() and "\\" not in text:
        return text
    done: list[str] = []
    place = 0
    while place < len(text):
        slashes = len(text) - place - len(text[place:].lstrip("\\"))
        follows = text[place + slashes :]
        code = _written_out(follows[:1])
        if code:
            done.append("\\" * (2 * slashes + 1) + code)
            place += slashes + 1
        elif slashes:
            looks_so = re.match(r"ud[89a-f][0-9a-f]{2}|x\{[89a-f][0-9a-f]\}", follows)
            done.append("\\" * (2 * slashes if looks_so else slashes))
            place += slashes
        else:
            done.append(text[place])
            place += 1
    return "".join(done)


def _is_text(value: str | None) -> bool:
    """Whether it is Unicode."""
    return not any(map(_written_out, value or ""))


def _written_out(char: str) -> str:
    if char and 0xD800 <= ord(char) <= 0xDFFF:
        return f"u{ord(char):04x}"
    if char and _STRAY_BYTE <= ord(char) <= _STRAY_BYTE + 255:
        return f"x{{{ord(char) - _STRAY_BYTE:02x}}}"
    return ""


def _all_written(value: Any) -> Any:
    if isinstance(value, str):
        return written(value)
    if isinstance(value, list):
        return [_all_written(one) for one in value]
    if isinstance(value, dict):
        return {written(name): _all_written(one) for name, one in value.items()}
    return value


def page_of(body: bytes) -> Page:
    """A body of the usage endpoint. Raises NotJson or NotAPage."""
    document, twice = parsed(body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "strays"))
    page = _object(document)
    if page.get("error") or page.get("errors") or page.get("object") == "error":
        raise NotJson("an error")
    has_more = page.get("has_more")
    if has_more is None and page.get("data") is None and page.get("object") not in ("page", "list"):
        if SAYS_WHY & page.keys():
            raise NotJson("an error of another kind")
        raise NotAPage("neither data nor has_more")
    buckets: list[tuple[int, int, list[Row]]] = []
    for one in map(_object, _array(page.get("data"))):
        rows = [_row(row) for row in _array(one.get("results")) if row is not None]
        buckets.append((_second(one.get("start_time")), _second(one.get("end_time")), rows))
    if has_more is not None and type(has_more) is not bool:
        raise NotAPage(f"has_more is {has_more!r:.40}")
    cursor = page.get("next_page")
    _text(cursor)
    return Page(buckets, has_more, cursor, twice)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise NotAPage(f"{value!r:.40} is no object")
    return value


def _array(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise NotAPage(f"{value!r:.40} is no array")
    return value


def _integer(value: Any) -> int | None:
    """A number that is whole, however it is written; None for anything else."""
    if isinstance(value, Number):
        if value.text.lstrip("-").isdigit():
            return None  # it has more digits than any count
        number = Fraction(value.text)
        return int(number) if number.denominator == 1 else None
    return value if type(value) is int else None


def _second(value: Any) -> int:
    second = _integer(value)
    if second is None or abs(second) > LARGEST:
        raise NotAPage(f"{value!r:.40} is no second")
    return second


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise NotAPage(f"{value!r:.40} is no text")
    return None if value is None else written(value)


def _count(value: Any) -> int | None:
    if value is None:
        return None
    count = _integer(value)
    if count is None or not 0 <= count <= LARGEST:
        raise NotAPage(f"{value!r:.40} is no count")
    return count


def _row(value: Any) -> Row:
    row = _object(value)
    _text(row.get("object"))
    user, key = (_text(row.get(name)) for name in IDS)
    created, added, operations = (_count(row.get(name)) for name in COUNTS)
    extra = {name: value for name, value in row.items() if name not in KNOWN}
    return user, key, created, added, operations, canonical(_all_written(extra)) if extra else None


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
    _not_followed: str = ""

    def take(self, log: Sequence[tuple[Question, Answer]]) -> None:
        """Take in all that was asked and served, in order."""
        for number, (question, answer) in enumerate(log):
            following = log[number + 1][0] if number + 1 < len(log) else None
            self._take(question, answer, following)
        self._break()

    def _take(self, question: Question, answer: Answer, following: Question | None) -> None:
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
            elif not any(page.buckets for page in self._chain):
                self.may_fail = self.may_fail or "it was promised behind a cursor that was refused"
            self._break()
        elif answer.too_big:
            self.may_fail = self.may_fail or "it was too big"
            self._in_a_row = 0
            self._break()
        else:
            self._read(question, answer.body, repeated, following)

    def _read(
        self, question: Question, body: bytes | None, repeated: bool, following: Question | None
    ) -> None:
        try:
            if body is None:
                raise NotJson("no body at all")
            page = page_of(body)
        except NotJson as error:
            self._in_a_row = self._in_a_row + 1 if repeated else 1
            self.no_json = following != question
            if self._in_a_row == self.attempts:
                self._fail(f"{error}, again and again")
        except NotAPage as error:
            self._fail(str(error))
        else:
            self._in_a_row = 0
            self._follow(question, page, following)

    def _fail(self, why: str) -> None:
        self.must_fail = self.must_fail or why

    def _follow(self, question: Question, page: Page, following: Question | None) -> None:
        if page.twice:
            self.may_fail = self.may_fail or "it says something twice"
        promised = not self._chain or bool(self._chain[-1].has_more)
        inside = [question.start <= start < question.end for start, _, _ in page.buckets]
        if not promised and inside and not any(inside):
            for start, end, _ in page.buckets:
                if end - start != 60 or start % 60:
                    self._fail(f"[{start}, {end}) is no minute")
            return
        self._keep(question, page)
        followed = {one.next_page for one in self._chain}
        self._chain.append(page)
        new_cursor = page.next_page not in {None, "", *followed}
        nothing_new, empty = self._in_vain()
        if page.has_more is False or (page.has_more is None and not page.buckets):
            self._covered.update(range(question.start, question.end, 60))
        if page.has_more and not page.next_page:
            self._fail("more is promised without a cursor")
        elif page.has_more and not new_cursor:
            self._fail("a cursor comes twice")
        in_vain = nothing_new == MOST_BARREN or empty > max(MOST_BARREN, self._asked_for(question))
        if new_cursor and page.has_more is not False and in_vain:
            self._fail("more is promised, and nothing new comes")
        elif new_cursor and self._must_go_on(question, page, promised):
            went_on = following is not None and following.page == page.next_page
            if not went_on and _is_text(page.next_page):
                self._not_followed = f"{question}: {page.next_page!r:.40} was not followed"

    def _keep(self, question: Question, page: Page) -> None:
        denied = bool(self._chain) and self._chain[-1].has_more is False
        known = {start for one in self._chain for start, _, _ in one.buckets}
        for start, end, rows in page.buckets:
            if not question.start <= start < question.end:
                self._fail(f"the bucket {start} is outside {question}")
            elif end - start != 60 or start % 60:
                self._fail(f"[{start}, {end}) is no minute")
            elif denied and rows and start not in known:
                self._fail(f"the bucket {start} comes after it was said that there is no more")
            else:
                self.buckets[start] = rows

    def _must_go_on(self, question: Question, page: Page, promised: bool) -> bool:
        """Whether what a new cursor leads to may matter."""
        served = {start for one in self._chain for start, _, _ in one.buckets}
        if page.has_more:
            return True
        if len(served) == self._asked_for(question):
            return False
        before = {start for one in self._chain[:-1] for start, _, _ in one.buckets}
        return promised or page.has_more is None or served != before

    @staticmethod
    def _asked_for(question: Question) -> int:
        return (question.end - question.start) // 60

    def _in_vain(self) -> tuple[int, int]:
        """How many of the last pages of the chain brought nothing new, and how many nothing."""
        seen: set[int] = set()
        nothing_new = empty = 0
        for page in self._chain:
            starts = {start for start, _, _ in page.buckets}
            empty = 0 if page.buckets else empty + 1
            if starts - seen:
                nothing_new = 0
            elif starts:
                nothing_new += 1
            seen |= starts
        return nothing_new, empty

    def _break(self) -> None:
        """A chain of pages that did not come to its end: in order, it covers all before its end."""
        starts = [start for page in self._chain for start, _, _ in page.buckets]
        if starts:
            self._covered.update(starts)
            if starts == sorted(starts):
                self._covered.update(range(self._chain_from, min(max(starts), self.end), 60))
        self._chain = []

    def rows(self) -> dict[int, list[Row]]:
        """The rows by minute, those without any left out. AssertionError where it can't be known
        whether a minute has any."""
        assert not self._not_followed, self._not_followed
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
