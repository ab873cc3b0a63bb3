"""The lake answers as the API would: usage buckets, page by page, in endpoint 1's own shape.

Every bucket of the window is present, one without usage with `results: []`; ids that are not
grouped by are null; results are ordered by user and key, null first. A window is widened to whole
buckets, so each number is a bucket's own. Zero is not the same as not loaded: a window with days
that the lake does not have is refused, unless the caller says that it may be partial.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any, Final, cast

import duckdb
import msgspec
import pyarrow as pa

from pipeline.api.usage import MAX_LIMIT, UsageQuery
from pipeline.endpoints import GroupBy
from pipeline.lake import engine
from pipeline.lake.buckets import (
    LONGEST,
    buckets,
    finest,
    is_native,
)
from pipeline.lake.catalog import NAMES
from pipeline.lake.completeness import disputed_days
from pipeline.lake.files import covered
from pipeline.lake.forgotten import FORGOTTEN
from pipeline.lake.schemas import COVERAGE, USAGE
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import check
from pipeline.messages import run
from pipeline.pseudonyms import PSEUDONYM, Pseudonyms
from pipeline.query.page import TEAM, Count, Page, count, json
from pipeline.timeline import ANY_WIDTHS, WIDTHS, AnyWidth, Width, Window, day_window, iso, spans
from pipeline.zones import zone

_LOADED: Final = USAGE["1d"].name
"""The table that says what is loaded."""
_SEAL: Final = 6
"""Bytes of a cursor's checksum."""
_GROUPS: Final = ("user_id", "api_key_id", TEAM)
_LAST_LOCAL: Final = 253_370_764_800  # 9999-01-01: a clock that is ahead goes no further


class CursorError(ValueError):
    """The cursor is not one of this query's."""


class NotLoadedError(LookupError):
    """The window has days that the lake does not have."""


@dataclass(frozen=True, slots=True)
class PageQuery:
    """One question to the lake, as one to endpoint 1. Times are Unix seconds, UTC.

    `end_time` None means the end of what is loaded. `tz` is an IANA time zone. ValueError, in words
    for a user, where a value is not possible.
    """

    start_time: int
    end_time: int | None = None
    bucket_width: AnyWidth = "1d"
    limit: int = MAX_LIMIT
    page: str | None = None
    user_ids: Sequence[str] = ()
    group_by: Sequence[str] = ()
    tz: str = "UTC"
    names: bool = False
    """Whether results have names beside the ids: more than the API's own shape."""

    @property
    def needs_names(self) -> bool:
        """Whether the answer depends on the file of names."""
        return self.names or TEAM in self.group_by

    def __post_init__(self) -> None:
        if self.bucket_width not in ANY_WIDTHS:
            raise ValueError(
                f"bucket_width is {self.bucket_width!r}: it must be one of {', '.join(ANY_WIDTHS)}"
            )
        for group in self.group_by:
            if group not in _GROUPS:
                raise ValueError(
                    f"group_by {group!r} is not in the lake: it has user_id, api_key_id and team_id"
                )
        zone(self.tz)
        # What is the API's to say of the rest, it says.
        UsageQuery(
            self.start_time,
            self.end_time,
            limit=self.limit,
            page=self.page,
            user_ids=self.user_ids,
            group_by=cast("Sequence[GroupBy]", [it for it in self.group_by if it != TEAM]),
        )
        if not is_native(self.bucket_width, self.tz):
            for name, at in (("start_time", self.start_time), ("end_time", self.end_time)):
                if at is not None and at > _LAST_LOCAL:
                    raise ValueError(f"{name} is {at}: on a wall clock it must be before 9999")


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where the next page starts, and which query it belongs to. Times are Unix seconds."""

    query: str
    at: int
    end: int

    def encode(self) -> str:
        """The opaque text: the cursor behind a checksum, so that a changed one is noticed."""
        payload = msgspec.json.encode(self)
        seal = hashlib.sha256(payload).digest()[:_SEAL]
        return base64.urlsafe_b64encode(seal + payload).decode().rstrip("=")

    @staticmethod
    def decode(text: str, query: PageQuery) -> Cursor:
        """The cursor in `text`, if it is one of `query`'s; CursorError otherwise."""
        refusal = CursorError(
            f"page {text!r} is not a cursor: pass the next_page of the page before, unchanged"
        )
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            cursor = msgspec.json.decode(raw[_SEAL:], type=Cursor)
        except ValueError:  # of base64, UTF-8 and JSON alike
            raise refusal from None
        if cursor.encode() != text:
            raise refusal
        if cursor.query != _digest(query):
            raise CursorError(
                "page is a cursor of another query: a cursor goes on only with the window, width, "
                "groups and users that it was given for"
            )
        return cursor


@dataclass(frozen=True)
class Answered:
    """One page, and up to where the lake is complete inside it (None: all of it)."""

    text: Iterator[bytes]
    """The page as JSON, in pieces that are counted as they are taken: once, and by one."""
    end: int
    """Where its last bucket ends."""
    complete_through: int | None
    snapshot: Snapshot
    """What it was read from."""
    disputed: Sequence[date] = ()
    """Its days whose totals differ from the API's own."""

    @cached_property
    def page(self) -> dict[str, Any]:
        """The page as plain values, all of it in memory."""
        return cast("dict[str, Any]", msgspec.json.decode(b"".join(self.text)))


def answer(
    lake: Lake, query: PageQuery, *, partial: bool = False, names: pa.Table | None = None
) -> Answered:
    """The page that endpoint 1 would answer `query` with, from the lake.

    `partial` counts days that are not loaded as empty. `names` (`NAMES`) says what people call
    whom, and who is in which team; None: nobody has a name. Raises NotLoadedError, CursorError, and
    DamagedError where a file that it takes is damaged.
    """
    return answer_on(engine.connect(lake), lake, query, partial=partial, names=names)


def answer_on(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    query: PageQuery,
    *,
    partial: bool = False,
    now: int | None = None,
    count: Count = count,
    names: pa.Table | None = None,
) -> Answered:
    """What `answer` answers, by a connection of `engine.connect` that many pages may share.

    With `now` (Unix seconds), a window without an end ends now, and days after the last one that is
    loaded count as empty: the API goes on. `count` counts the page's rows.
    """
    whole: Snapshot | None = None
    end = now if query.end_time is None else query.end_time
    if end is None:
        whole = Snapshot(lake)
        end = _loaded_end(whole, query)
    window = _window(con, query, end)
    start = window.start
    if query.page is not None:
        cursor = Cursor.decode(query.page, query)
        start, window = cursor.at, Window(window.start, cursor.end)
        if not window.start <= start < window.end:
            raise CursorError("page points outside of the window that it was given for")
    longest = query.limit * LONGEST[query.bucket_width]
    within = Window(start, min(start + longest, window.end))
    asked = buckets(con, within, query.bucket_width, query.tz)[: query.limit]
    part = Window(asked[0].start, asked[-1].end)
    snapshot = whole or _of_window(lake, part, ahead=now is not None and not partial)
    # Of years that are not loaded, no day is looked at.
    days = part.among(list(snapshot.versions))
    snapshot.check(days, {_LOADED, USAGE[finest(asked)].name, COVERAGE.name})
    _require_kept(snapshot, days, finest(asked))
    disputed = disputed_days(snapshot, days)
    complete_through = _complete_through(
        snapshot, part, days, disputed, partial=partial, ahead=now is not None
    )
    following = None
    if part.end < window.end:
        following = Cursor(_digest(query), part.end, window.end).encode()
    native = is_native(query.bucket_width, query.tz)
    called = (NAMES.empty_table() if names is None else names) if query.needs_names else None
    page = Page(asked, native, query.group_by, query.user_ids, following, called, query.names)
    text = json(page, count(con, snapshot, page, days))
    return Answered(text, part.end, complete_through, snapshot, disputed)


_KEPT_AS: Final[dict[Width, tuple[str, str]]] = {
    "1m": ("minutes", "MKA1_USAGE_KEEP_MINUTES_DAYS"),
    "1h": ("hours", "MKA1_USAGE_KEEP_HOURS_DAYS"),
}


def _require_kept(snapshot: Snapshot, days: Sequence[date], width: Width) -> None:
    """Raise NotLoadedError where a day is loaded, and what a page is counted from is not there:
    not kept any more, or to be kept again and not loaded yet. It is not empty."""
    there, name = snapshot.file, USAGE[width].name
    lacking = [day for day in days if there(_LOADED, day) and not there(name, day)]
    if not lacking:
        return
    dropped = [day for day in lacking if snapshot.is_dropped(name, day)]
    gone = dropped or lacking
    rest = [it for it in WIDTHS if there(USAGE[it].name, gone[0])]
    what, setting = _KEPT_AS[width]
    first, last = spans(gone)[0]
    words = f"{first}" if first == last else f"{first} to {last}"
    more = f" (and {len(gone) - (last - first).days - 1} more)" if gone[-1] > last else ""
    ask = f"ask for buckets of {' or '.join(rest)} that begin and end with those of UTC"
    if dropped:
        raise NotLoadedError(
            f"the {what} of {words}{more} are not kept any more ({setting}): {ask}"
        )
    raise NotLoadedError(
        f"the {what} of {words}{more} were dropped, and are not loaded again: load them with "
        f"`{run(first, last, '--full')}`, or {ask}"
    )


def stored_users(lake: Lake, users: Sequence[str], pseudonyms: Pseudonyms | None) -> Sequence[str]:
    """Users by the ids that the lake has of them; UserIdModeError where it has another kind, of
    which it would say that they have no usage."""
    if users:
        check(lake, pseudonyms.fingerprint if pseudonyms else None)
    return [pseudonyms.of(user) for user in users] if pseudonyms else users


def stored_user(lake: Lake, user: str, pseudonyms: Pseudonyms | None) -> str:
    """The id that the lake has of a user, who is named by that or by the real id; UserIdModeError
    where the lake has another kind."""
    if PSEUDONYM.fullmatch(user) or FORGOTTEN.fullmatch(user):
        return user
    return stored_users(lake, [user], pseudonyms)[0]


def _of_window(lake: Lake, window: Window, *, ahead: bool) -> Snapshot:
    """The days of a window that are there; all days, where one of the window's is not loaded and
    may be one that is `ahead` of the last.
    """
    snapshot = Snapshot(lake, window.among(lake.all_days()))
    if ahead and window.lacks(snapshot.days(_LOADED)):
        return Snapshot(lake)
    return snapshot


def _loaded_end(snapshot: Snapshot, query: PageQuery) -> int:
    """The end of what is loaded (Unix seconds)."""
    if snapshot.extent is None:
        raise NotLoadedError("nothing is loaded yet: load days with `mka1-usage run`")
    last = snapshot.extent[1]
    snapshot.check([last], {_LOADED})
    end = covered(snapshot.files(_LOADED, [last])[0]).window.end
    if end <= query.start_time:
        raise NotLoadedError(
            f"nothing is loaded from {iso(query.start_time)} on: the lake ends at {iso(end)}"
        )
    return end


def _window(con: duckdb.DuckDBPyConnection, query: PageQuery, end: int) -> Window:
    first, *_ = buckets(
        con, Window(query.start_time, query.start_time + 1), query.bucket_width, query.tz
    )
    *_, last = buckets(con, Window(end - 1, end), query.bucket_width, query.tz)
    return Window(first.start, last.end)


def _complete_through(
    snapshot: Snapshot,
    window: Window,
    days: Sequence[date],
    disputed: Sequence[date],
    *,
    partial: bool,
    ahead: bool,
) -> int | None:
    """Where the first open, missing or disputed day leaves the window incomplete; None where none
    does.

    `days`: those of the window of which anything is there. `ahead`: days after the last one that is
    loaded may be missing.
    """
    loaded: list[date] = []
    through: list[int] = []
    for day in days:
        file = snapshot.loaded(_LOADED, day)
        if file is not None:
            loaded.append(day)
            if not file.complete(day) and file.window.end < window.end:
                through.append(file.window.end)
    missing = window.lacks(loaded)
    if missing and not partial:
        last = snapshot.extent[1] if ahead and snapshot.extent else date.max
        if gaps := [(start, min(end, last)) for start, end in missing if start <= last]:
            raise NotLoadedError(_missing(gaps))
    starts = [day_window(day).start for day in (*(start for start, _ in missing), *disputed)]
    return min([*starts, *through], default=None)


def _missing(gaps: Sequence[tuple[date, date]]) -> str:
    first, last = gaps[0]
    end = min(last, date.max - timedelta(days=1)) + timedelta(days=1)
    words = f"{first}" if first == last else f"{first} to {last}"
    others = sum((end - start).days + 1 for start, end in gaps[1:])
    more = f" (and {others} more)" if others else ""
    return (
        f"not loaded: {words}{more}. Load with "
        f"`mka1-usage run --start {first} --end {end}`, "
        "or count what is not loaded as empty with --partial"
    )


def _digest(query: PageQuery) -> str:
    """A name for the query that its cursors carry; the limit may differ from page to page."""
    parts = (
        query.start_time,
        query.end_time,
        query.bucket_width,
        sorted(query.group_by),
        sorted(set(query.user_ids)),
        query.tz,
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
