"""How far a sync has read: a cache beside the lake, which costs requests when it is lost.

    <lake>/.sync/listings.parquet
    <lake>/.sync/tails.parquet
    <lake>/.sync/visits/2024-01-01.parquet

A file that is not there, can't be read or is not one of these is as good as none: everything is
read again. So is what speaks of rows that are not stored (`forget_unfounded`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake import engine
from pipeline.lake.dropped_items import bind_dropped
from pipeline.lake.manifest import days_without_items
from pipeline.lake.schemas import CONVERSATIONS, ITEMS, RESPONSES, USAGE
from pipeline.lake.store import Lake, replacing

Pair = tuple[str | None, str | None]
"""A key id, and a user id: None is the key owner, or nobody's key."""

_FOLDER: Final = ".sync"
_VERSION: Final = b"2"
_KEY: Final = b"mka1_sync"


class ListingState(NamedTuple):
    """What the last reading of a listing left behind; nothing but its names, before the first."""

    api_key_id: str
    user_id: str | None
    """NULL: the key owner's own listing."""
    order: tuple[str, ...] = ()
    """Conversation ids, the newest update first."""
    response_cursor: str | None = None
    """The response after which to read on: all before it are final, or given up."""
    waiting: tuple[str, ...] = ()
    """The responses that were not final, which stood behind it, in the order of the list."""
    has_unlisted: bool = False
    """Whether the whole list was once read for responses that items name, and did not have them."""


class TailState(NamedTuple):
    """How far a conversation's items are known."""

    conversation_id: str
    last_item_id: str | None = None
    items: int = 0
    unreadable: bool = False


_LISTINGS: Final = pa.schema(
    [
        pa.field("api_key_id", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("order", pa.list_(pa.string())),
        pa.field("response_cursor", pa.string()),
        pa.field("waiting", pa.list_(pa.string())),
        pa.field("has_unlisted", pa.bool_()),
    ],
    metadata={_KEY: _VERSION},
)
_TAILS: Final = pa.schema(
    [
        pa.field("conversation_id", pa.string()),
        pa.field("last_item_id", pa.string()),
        pa.field("items", pa.int64()),
        pa.field("unreadable", pa.bool_()),
    ],
    metadata={_KEY: _VERSION},
)
VISITS: Final = pa.schema(
    [column for column in USAGE["1d"].schema if column.name != "end_time"],
    metadata={_KEY: _VERSION},
)
"""What usage of a day said of a listing when it was read last."""


@dataclass(slots=True)
class SyncState:
    """What is known of every listing, by key and user, and of every conversation, by its id."""

    listings: dict[Pair, ListingState] = field(default_factory=dict[Pair, ListingState])
    tails: dict[str, TailState] = field(default_factory=dict[str, TailState])

    def put_listing(self, listing: ListingState) -> None:
        """Replace what is known of a listing."""
        self.listings[listing.api_key_id, listing.user_id] = listing

    def put_tail(self, tail: TailState) -> None:
        """Replace what is known of a conversation's items."""
        self.tails[tail.conversation_id] = tail

    def unreadable(self) -> Iterator[str]:
        """The conversations whose items could not be read."""
        return (name for name, tail in self.tails.items() if tail.unreadable)


def load(lake: Lake) -> SyncState:
    """What the last sync left behind; an empty state where there is nothing to be read."""
    state = SyncState()
    for listing in _rows(lake.root / _FOLDER / "listings.parquet", _LISTINGS):
        state.put_listing(ListingState(*listing))
    for tail in _rows(lake.root / _FOLDER / "tails.parquet", _TAILS):
        state.put_tail(TailState(*tail))
    return state


def save(lake: Lake, state: SyncState) -> None:
    """Keep the state for the next sync. Raises OSError when the disk fails; the old one stays."""
    folder = lake.root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    # Tails first. An order that is newer than its tails would pass over their conversations.
    _write(folder / "tails.parquet", _table(state.tails.values(), _TAILS))
    _write(folder / "listings.parquet", _table(state.listings.values(), _LISTINGS))


def forget_unfounded(con: duckdb.DuckDBPyConnection, lake: Lake, state: SyncState) -> int:
    """Forget what speaks of rows that are not stored; returns of how many listings.

    A listing is believed if each conversation of its order is stored, and its last response; a
    conversation's end, if its last item is, and no fewer items than were read. Where items of a
    conversation were dropped, its end is believed.
    """
    inputs = {
        "conversations": (CONVERSATIONS, lake.files("conversations")),
        "items": (ITEMS, lake.files("items")),
        "responses": (RESPONSES, lake.files("responses")),
    }
    engine.bind(con, inputs)
    bind_dropped(con, days_without_items(lake))
    con.register("tails", _table(state.tails.values(), _TAILS))
    listings = list(state.listings.values())
    named = [(number, name, None) for number, it in enumerate(listings) for name in it.order]
    last = [(number, None, it.response_cursor) for number, it in enumerate(listings)]
    con.register("named", _table([*named, *last], _NAMED))
    for (name,) in con.sql(engine.sql("unfounded_tails")).fetchall():
        if state.tails.pop(name).unreadable:
            state.put_tail(TailState(name, unreadable=True))
    unfounded = con.sql(engine.sql("unfounded_listings")).fetchall()
    for (number,) in unfounded:
        del state.listings[listings[number].api_key_id, listings[number].user_id]
    return len(unfounded)


def visits(lake: Lake, days: Iterable[date]) -> pa.Table:
    """What usage said of the listings when they were read last, of `days`; as VISITS."""
    tables = [_read(_visits(lake, day), VISITS) for day in sorted(set(days))]
    return pa.concat_tables([VISITS.empty_table(), *tables])


def visited_days(lake: Lake) -> list[date]:
    """The days of which visits are kept, in order."""
    names = (path.stem for path in (lake.root / _FOLDER / "visits").glob("????-??-??.parquet"))
    return sorted(date.fromisoformat(name) for name in names)


def save_visits(lake: Lake, day: date, table: pa.Table) -> None:
    """Keep the visits of a day. Raises OSError when the disk fails; the old ones stay."""
    path = _visits(lake, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, table.cast(VISITS))


def rename_users(lake: Lake, names: Mapping[str, str]) -> None:
    """Let the state speak of users by other names; to be called with the lock `sync`."""
    folder = lake.root / _FOLDER
    paths = {folder / "listings.parquet": _LISTINGS}
    paths |= dict.fromkeys((folder / "visits").glob("????-??-??.parquet"), VISITS)
    for path, schema in paths.items():
        table = _read(path, schema)
        place = schema.get_field_index("user_id")
        users = table.column("user_id").to_pylist()
        if names.keys() & {*users}:
            renamed = pa.array([user and names.get(user, user) for user in users], pa.string())
            _write(path, table.set_column(place, schema.field("user_id"), renamed).cast(schema))


def _visits(lake: Lake, day: date) -> Path:
    return lake.root / _FOLDER / "visits" / f"{day}.parquet"


_NAMED: Final = pa.schema(
    [
        pa.field("listing", pa.int64()),
        pa.field("conversation_id", pa.string()),
        pa.field("response_id", pa.string()),
    ]
)


def _rows(path: Path, schema: pa.Schema) -> Iterator[tuple[Any, ...]]:
    table = _read(path, schema)
    return zip(*(_values(table, name) for name in schema.names), strict=True)


def _values(table: pa.Table, name: str) -> list[Any]:
    column = table.column(name).combine_chunks()
    if not pa.types.is_list(column.type):
        return list(column.to_pylist())
    # Cut by hand: Arrow's own way makes an object of every list first.
    flat = column.flatten().to_pylist()
    ends = pc.cumulative_sum(pc.list_value_length(column)).to_pylist()
    starts = [0, *ends[:-1]]
    return [tuple(flat[start:end]) for start, end in zip(starts, ends, strict=False)]


def _table(rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(values, column.type) for values, column in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.ParquetFile(path).read(columns=schema.names)
        if not table.schema.equals(schema, check_metadata=False):
            return schema.empty_table()
        return table if _ours(table) else schema.empty_table()
    except (OSError, pa.ArrowException):
        return schema.empty_table()


def _ours(table: pa.Table) -> bool:
    """Whether the file is of this version, and no id is missing that all else hangs on."""
    version = (table.schema.metadata or {}).get(_KEY)
    return version == _VERSION and all(
        table.column(name).null_count == 0
        for name in table.schema.names
        if name not in {"user_id", "response_cursor", "last_item_id"}
    )


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as aside:
        pq.write_table(table, aside, compression="zstd")
