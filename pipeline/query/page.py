"""A page of buckets as JSON, in endpoint 1's own shape: piece by piece, so of any size.

Belongs here: the query of a page's numbers, and how they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

import duckdb
import msgspec
import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.buckets import edges, finest
from pipeline.lake.schemas import USAGE
from pipeline.lake.snapshot import Snapshot
from pipeline.timeline import Window

RESULT: Final = "organization.usage.conversations.result"
TEAM: Final = "team_id"
"""What a page is grouped by that the API does not know."""
_AT_ONCE: Final = 1_000_000
"""Rows of the lake, about, that one query counts: what it groups and sorts fits into memory."""
_WRITTEN: Final = 10_000
"""Results that are written at once."""

Row: TypeAlias = tuple[Any, ...]
"""Start of a bucket (Unix seconds), user, key, conversations, items, operations; and the team,
where it is grouped by."""


class _Result(msgspec.Struct, tag_field="object", tag=RESULT):
    num_conversations_created: int | None
    num_items_added: int | None
    num_operations: int | None
    user_id: str | None
    api_key_id: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows: buckets in order, and how they are counted."""

    buckets: Sequence[Window]
    native: bool
    """Whether a table has these buckets as they are."""
    group_by: Sequence[str]
    users: Sequence[str]
    """Whose usage counts; empty: everybody's."""
    next_page: str | None
    names: pa.Table | None = None
    """What people call whom, and who is in which team; None where nobody asks."""
    named: bool = False
    """Whether results have names beside the ids."""

    @property
    def by_team(self) -> bool:
        """Whether it is grouped by team."""
        return TEAM in self.group_by


Count: TypeAlias = (
    "Callable[[duckdb.DuckDBPyConnection, Snapshot, Page, Sequence[date]], Iterator[Row]]"
)
"""What counts the rows of a page."""


def json(page: Page, counted: Iterator[Row]) -> Iterator[bytes]:
    """The page in pieces that make one JSON text, of rows that are counted as they are taken."""
    results = _Called(page).results if page.named or page.by_team else _results
    by_bucket = groupby(counted, key=itemgetter(0))
    start, rows = next(by_bucket, (None, iter(())))
    opening = b'{"object":"page","data":['
    for bucket in page.buckets:
        yield opening + (
            b'{"object":"bucket","start_time":%d,"end_time":%d,"results":['
            % (bucket.start, bucket.end)
        )
        if start == bucket.start:
            yield from results(rows)
            start, rows = next(by_bucket, (None, iter(())))
        opening = b"]},"
    rest = {"has_more": page.next_page is not None, "next_page": page.next_page}
    yield b"]}]," + msgspec.json.encode(rest)[1:]


def _results(rows: Iterator[Row]) -> Iterator[bytes]:
    """The results of one bucket, without the brackets of their array."""
    comma = b""
    while some := [
        _Result(conversations, items, operations, user_id, api_key_id)
        for _, user_id, api_key_id, conversations, items, operations in islice(rows, _WRITTEN)
    ]:
        yield comma + msgspec.json.encode(some)[1:-1]
        comma = b","


class _Called:
    """What writes results with a team, or with names: those of a kind, by id."""

    def __init__(self, page: Page) -> None:
        self._by_team, self._named = page.by_team, page.named
        self._names: dict[tuple[str, str | None], str | None] = {}
        for kind, id_, name, _ in zip(*_columns(page.names), strict=True):
            self._names["team" if kind == "cost_centre" else kind, id_] = name

    def results(self, rows: Iterator[Row]) -> Iterator[bytes]:
        """The results of one bucket, without the brackets of their array."""
        comma = b""
        while some := [self._result(*row[1:]) for row in islice(rows, _WRITTEN)]:
            yield comma + msgspec.json.encode(some)[1:-1]
            comma = b","

    def _result(
        self,
        user_id: str | None,
        api_key_id: str | None,
        conversations: int | None,
        items: int | None,
        operations: int | None,
        team_id: str | None = None,
    ) -> dict[str, object]:
        names = {"user_name": ("user", user_id), "api_key_name": ("key", api_key_id)}
        teams = {"team_name": ("team", team_id)} if self._by_team else {}
        called = {name: self._names.get(key) for name, key in {**names, **teams}.items()}
        return {
            "object": RESULT,
            "num_conversations_created": conversations,
            "num_items_added": items,
            "num_operations": operations,
            "user_id": user_id,
            "api_key_id": api_key_id,
            **({TEAM: team_id} if self._by_team else {}),
            **(called if self._named else {}),
        }


def _columns(names: pa.Table | None) -> list[list[Any]]:
    return [[], [], [], []] if names is None else [column.to_pylist() for column in names.columns]


def count(
    con: duckdb.DuckDBPyConnection, snapshot: Snapshot, page: Page, days: Sequence[date]
) -> Iterator[Row]:
    """The rows of `sql/usage_page.sql`, or of `sql/usage_page_teams.sql`, in order, from those of
    `days` that are loaded.

    Some at a time, when they are taken. DuckDB's errors, where they can't be counted.
    """
    dataset = USAGE[finest(page.buckets)]
    window = Window(page.buckets[0].start, page.buckets[-1].end)
    found = (snapshot.loaded(dataset.name, day) for day in days)
    rows = sum(file.rows for file in found if file is not None)
    # Of a few million rows, many queries of some buckets each; else one.
    number = max(1, len(page.buckets) * _AT_ONCE // max(rows, 1))
    for first in range(0, len(page.buckets), number):
        some = page.buckets[first : first + number]
        window = Window(some[0].start, some[-1].end)
        files = snapshot.files(dataset.name, window.among(days))
        users = {f"user_{place}": user for place, user in enumerate(page.users)}
        usage = (
            f"SELECT * FROM ({engine.scan(dataset, files)}) "
            f"WHERE {engine.within(window.start, window.end)}"
        )
        if users:
            usage += f" AND user_id IN ({', '.join(f'${name}' for name in users)})"
        if page.native:
            inputs = f"usage AS ({usage})"
        else:
            # Of days that are not loaded there is nothing to count, and their minutes are many.
            con.register("edges", edges([it for it in some if it.among(days)]))
            inputs = f"usage_rows AS ({usage}), usage AS ({engine.sql('usage_by')})"
        params: dict[str, Any] = {
            "by_user": "user_id" in page.group_by,
            "by_key": "api_key_id" in page.group_by,
        }
        query = "usage_page"
        if page.by_team:
            query = "usage_page_teams"
            con.register("names", page.names)
        con.execute(f"WITH {inputs} {engine.sql(query)}", params | users)
        while some_rows := con.fetchmany(_WRITTEN):
            yield from some_rows
