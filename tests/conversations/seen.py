"""RowBuffer in plain Python, and what they come to when merged and counted without the pipeline."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.apart import EARLIEST
from pipeline.conversations.merge import Merged, merge_rows
from pipeline.conversations.row_buffer import Kind, RowBuffer
from pipeline.lake.store import Lake
from pipeline.timeline import day_of, day_range
from tests.lake.served import MIDNIGHT, Row, rows_of

NOON = MIDNIGHT + 43_200
FAR = MIDNIGHT + 5_000 * 86_400
"""Nothing is created later."""
EVERY_DAY = frozenset(day_range(EARLIEST, day_of(FAR)))


@dataclass(frozen=True)
class Conversation:
    """A conversation as seen once. Times are Unix seconds."""

    id: str
    created_at: float = NOON
    user_id: str | None = "ada"
    api_key_id: str = "key"
    seen_at: float = NOON
    deleted_at: float | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class Item:
    """An item as seen once."""

    id: str
    conversation_id: str = "c"
    response_id: str | None = None
    seen_at: float = NOON
    type: str = "message"
    role: str | None = "user"
    content_chars: int | None = 5
    body: str | None = None


@dataclass(frozen=True)
class Response:
    """A response as seen once."""

    id: str
    conversation_id: str | None = "c"
    created_at: float = NOON
    user_id: str | None = "ada"
    api_key_id: str = "key"
    seen_at: float = NOON
    status: str = "completed"
    total_tokens: int | None = None
    model: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


Sight = Conversation | Item | Response
KIND_OF: dict[type[Sight], Kind] = {
    Conversation: "conversations",
    Item: "items",
    Response: "responses",
}


def gather(folder: Path, seen: Iterable[Sight]) -> RowBuffer:
    """The sights, taken in one by one as a sync would listing by listing."""
    sights = RowBuffer(folder)
    for sight in seen:
        sights.add(KIND_OF[type(sight)], {name: [value] for name, value in asdict(sight).items()})
    return sights


def land_seen(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    *seen: Sight,
    until: float = FAR,
    loaded: Collection[date] = EVERY_DAY,
) -> Merged:
    """Land the sights of one sync."""
    with tempfile.TemporaryDirectory() as folder:
        return merge_rows(con, lake, gather(Path(folder), seen), until, loaded)


def landed(lake: Lake, dataset: str) -> dict[str, Row]:
    """All rows of a dataset by id, each file's rows checked to be in order and of its day."""
    found: dict[str, Row] = {}
    for day in lake.days(dataset):
        rows = rows_of(lake.path(dataset, day))
        ids = [str(row["id"]) for row in rows]
        assert ids == sorted(ids, key=str.encode)
        assert not set(ids) & set(found), "an id stands on two days"
        found.update(zip(ids, rows, strict=True))
    return found


def exact(lake: Lake, dataset: str) -> list[dict[str, Any]]:
    """All rows of a dataset, times to the microsecond."""
    return [
        row
        for path in lake.files(dataset)
        for row in pa.parquet.ParquetFile(path).read().to_pylist()
    ]


def days_of(lake: Lake, dataset: str) -> dict[str, date]:
    """The day each id stands on."""
    return {
        str(row["id"]): day
        for day in lake.days(dataset)
        for row in rows_of(lake.path(dataset, day))
    }


def merged(seen: Sequence[Conversation]) -> dict[str, tuple[object, ...]]:
    """The truth: id -> user, key, deleted_at, metadata, first and last seen."""
    groups: dict[str, list[Conversation]] = defaultdict(list)
    for sight in seen:
        groups[sight.id].append(sight)
    found: dict[str, tuple[object, ...]] = {}
    for name, sights in groups.items():
        users = {sight.user_id for sight in sights} - {None}
        keys = {sight.api_key_id for sight in sights}
        last = max(sight.seen_at for sight in sights)
        (deleted, metadata) = max(
            (
                (sight.deleted_at or -1, sight.metadata or "")
                for sight in sights
                if sight.seen_at == last
            ),
        )
        found[name] = (
            users.pop() if len(users) == 1 else None,
            keys.pop() if len(keys) == 1 else None,
            None if deleted == -1 else deleted,
            metadata or None,
            min(sight.seen_at for sight in sights),
            last,
        )
    return found


def observed_count(
    conversations: Sequence[Conversation],
    items: Sequence[Item],
    responses: Sequence[Response],
    seconds: int,
    through: float,
) -> dict[tuple[int, str | None, str | None], tuple[int, int]]:
    """The truth: (bucket start, user, key) -> conversations created, items added."""
    owners = merged(conversations)
    created = {c.id: c.created_at for c in conversations}
    dated = {r.id: r.created_at for r in responses}
    first: dict[tuple[str, str], float] = {}
    for item in items:
        moment = dated.get(item.response_id or "")
        place = (item.conversation_id, item.id)
        moment = item.seen_at if moment is None else moment
        first[place] = min(moment, first.get(place, moment))
    counts: Counter[tuple[int, str | None, str | None, str]] = Counter()
    for name, moment in created.items():
        user, key = owners[name][:2]
        if moment < through:
            counts[_bucket(moment, seconds), _text(user), _text(key), "c"] += 1
    for (conversation, _), moment in first.items():
        user, key = owners.get(conversation, (None, None))[:2]
        if moment < through:
            counts[_bucket(moment, seconds), _text(user), _text(key), "i"] += 1
    return {
        group: (counts[(*group, "c")], counts[(*group, "i")])
        for group in {(start, user, key) for start, user, key, _ in counts}
    }


def _bucket(moment: float, seconds: int) -> int:
    return int(moment // seconds * seconds)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
