"""The lake answers as the API would: usage buckets, page by page, in endpoint 1's own shape.

Belongs here: windows into pages, cursors, the JSON's names, order and types. Does not belong here:
reading the command line or serving HTTP, which are edges over this.

Every bucket of the window is present, one without usage with `results: []`; ids that are not
grouped by are null; results are ordered by user and key, null first. A window is widened to whole
buckets, so each number is a bucket's own. Zero is not the same as not loaded: a window with days
that the lake does not have is refused, unless the caller says that it may be partial.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import msgspec
import pyarrow as pa

from pipeline.api.usage import UsageQuery
from pipeline.lake import engine
from pipeline.lake.schemas import USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, Window, day_window, iso, spans

RESULT: Final = "organization.usage.conversations.result"
_SEAL: Final = 6
"""Bytes of a cursor's checksum."""
_ANSWERABLE: Final = frozenset({"user_id", "api_key_id"})


class CursorError(ValueError):
    """The cursor is not one of this query's."""


class NotLoadedError(LookupError):
    """The window has days that the lake does not have."""


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
    def decode(text: str, query: UsageQuery) -> Cursor:
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


@dataclass(frozen=True, slots=True)
class Answered:
    """One page, and up to where the lake is complete inside it (None: all of it)."""

    page: dict[str, Any]
    complete_through: int | None


def answer(lake: Lake, query: UsageQuery, *, partial: bool = False) -> Answered:
    """The page that endpoint 1 would answer `query` with, from the lake.

    `end_time` None means the end of what is loaded. `partial` counts days that are not loaded as
    empty. Raises NotLoadedError, CursorError, and ValueError for a parameter that the lake cannot
    answer.
    """
    _require_answerable(query)
    window = _window(lake, query)
    start = window.start
    if query.page is not None:
        cursor = Cursor.decode(query.page, query)
        start, window = cursor.at, Window(window.start, cursor.end)
        if not window.start <= start < window.end:
            raise CursorError("page points outside of the window that it was given for")
    width = SECONDS[query.bucket_width]
    part = Window(start, min(start + query.limit * width, window.end))
    complete_through = _complete_through(lake, part, partial=partial)
    results = _results(lake, query, part)
    has_more = part.end < window.end
    page = {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": bucket,
                "end_time": bucket + width,
                "results": results.get(bucket, []),
            }
            for bucket in range(part.start, part.end, width)
        ],
        "has_more": has_more,
        "next_page": Cursor(_digest(query), part.end, window.end).encode() if has_more else None,
    }
    return Answered(page, complete_through)


def _require_answerable(query: UsageQuery) -> None:
    if not _ANSWERABLE.issuperset(query.group_by):
        raise ValueError("group_by org_id is not in the lake: it has user_id and api_key_id")
    for name in ("external_user_ids", "org_ids", "all_orgs"):
        if getattr(query, name):
            raise ValueError(f"{name} is not in the lake: filter by user_ids")


def _window(lake: Lake, query: UsageQuery) -> Window:
    end = query.end_time
    if end is None:
        days = lake.days("usage_1d")
        loaded = lake.loaded("usage_1d", days[-1]) if days else None
        if loaded is None:
            raise NotLoadedError("nothing is loaded yet: load days with `mka1-usage run`")
        end = loaded.window.end
        if end <= query.start_time:
            raise NotLoadedError(
                f"nothing is loaded from {iso(query.start_time)} on: the lake ends at {iso(end)}"
            )
    return Window(query.start_time, end).widened(query.bucket_width)


def _complete_through(lake: Lake, window: Window, *, partial: bool) -> int | None:
    """Where the first open or missing day leaves the window incomplete; None where none does."""
    missing: list[date] = []
    through: int | None = None
    for day in window.days:
        loaded = lake.loaded("usage_1d", day)
        if loaded is None:
            missing.append(day)
        elif not loaded.complete(day) and loaded.window.end < window.end:
            through = loaded.window.end if through is None else min(through, loaded.window.end)
    if missing and not partial:
        raise NotLoadedError(_missing(missing))
    starts = [day_window(day).start for day in missing]
    return min([*starts, *([] if through is None else [through])], default=None)


def _missing(days: Sequence[date]) -> str:
    first, last = spans(days)[0]
    end = min(last, date.max - timedelta(days=1)) + timedelta(days=1)
    words = f"{first}" if first == last else f"{first} to {last}"
    more = f" (and {len(days) - (last - first).days - 1} more)" if len(spans(days)) > 1 else ""
    return (
        f"not loaded: {words}{more}. Load with "
        f"`mka1-usage run --start {first} --end {end}`, "
        "or count what is not loaded as empty with --partial"
    )


def _results(lake: Lake, query: UsageQuery, window: Window) -> dict[int, list[dict[str, Any]]]:
    """Result objects per bucket start, in order."""
    dataset = USAGE[query.bucket_width]
    results: dict[int, list[dict[str, Any]]] = {}
    with closing(engine.connect()) as con:
        engine.bind(con, {"usage": (dataset, lake.files(dataset.name, window.days))})
        con.register("wanted_users", pa.table({"user_id": pa.array(query.user_ids, pa.string())}))
        rows = con.execute(
            engine.sql("usage_page"),
            {
                "start": window.start,
                "end": window.end,
                "by_user": "user_id" in query.group_by,
                "by_key": "api_key_id" in query.group_by,
                "all_users": not query.user_ids,
            },
        ).fetchall()
    for start, user_id, api_key_id, conversations, items, operations in rows:
        results.setdefault(start, []).append(
            {
                "object": RESULT,
                "num_conversations_created": conversations,
                "num_items_added": items,
                "num_operations": operations,
                "user_id": user_id,
                "api_key_id": api_key_id,
            }
        )
    return results


def _digest(query: UsageQuery) -> str:
    """A name for the query that its cursors carry; the limit may differ from page to page."""
    parts = (
        query.start_time,
        query.end_time,
        query.bucket_width,
        sorted(query.group_by),
        sorted(set(query.user_ids)),
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
