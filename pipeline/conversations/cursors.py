"""How far a sync has read: a cache beside the lake, which costs requests when it is lost.

    <lake>/.sync/listings.parquet
    <lake>/.sync/tails.parquet
    <lake>/.sync/visits/2024-01-01.parquet

A file that is not there, can't be read or is not one of these is as good as none: everything is
read again. So is what speaks of rows that are not stored (`forget_unfounded`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake import engine
from pipeline.lake.schemas import CONVERSATIONS, ITEMS, RESPONSES
from pipeline.lake.store import Lake, replacing

_FOLDER: Final = ".sync"
_VERSION: Final = b"2"
_KEY: Final = b"mka1_sync"


class ListingState(NamedTuple):
    """What the last reading of a listing left behind."""

    api_key_id: str
    user_id: str | None
    """NULL: the key owner's own listing."""
    order: tuple[str, ...] = ()
    """Conversation ids, the newest update first."""
    response_cursor: str | None = None
    """The response after which to read on."""
    waiting: tuple[str, ...] = ()
    """The responses that were not final, in the order of the list."""
    has_unlisted: bool = False
    """Whether items name responses that the whole list did not have."""


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
    [
        pa.field("start_time", pa.timestamp("us", tz="UTC")),
        pa.field("user_id", pa.string()),
        pa.field("api_key_id", pa.string()),
        pa.field("num_conversations_created", pa.int64()),
        pa.field("num_items_added", pa.int64()),
        pa.field("num_operations", pa.int64()),
    ],
    metadata={_KEY: _VERSION},
)
"""What usage of a day said of a listing when it was read last."""


@dataclass(slots=True)
class SyncState:
    """What is known of every listing and every conversation; to be changed by `put_…` only."""

    _listings: dict[tuple[str, str | None], ListingState] = field(
        default_factory=dict[tuple[str, str | None], ListingState]
    )
    _tails: dict[str, TailState] = field(default_factory=dict[str, TailState])

    def listing(self, api_key_id: str, user_id: str | None) -> ListingState | None:
        """What is known of a listing; None where it was never read."""
        return self._listings.get((api_key_id, user_id))

    def tail(self, conversation_id: str) -> TailState | None:
        """How far a conversation's items are known; None where they were never read."""
        return self._tails.get(conversation_id)

    def put_listing(self, listing: ListingState) -> None:
        """Replace what is known of a listing."""
        self._listings[listing.api_key_id, listing.user_id] = listing

    def put_tail(self, tail: TailState) -> None:
        """Replace what is known of a conversation's items."""
        self._tails[tail.conversation_id] = tail

    def listings(self) -> Collection[ListingState]:
        """All listings that were ever read."""
        return self._listings.values()

    def drop_listing(self, api_key_id: str, user_id: str | None) -> None:
        """Forget a listing: it is read from the beginning."""
        self._listings.pop((api_key_id, user_id), None)

    def drop_tail(self, conversation_id: str) -> None:
        """Forget how far a conversation's items are known: they are read from the beginning."""
        tail = self._tails.pop(conversation_id, None)
        if tail is not None and tail.unreadable:
            self.put_tail(TailState(conversation_id, unreadable=True))

    def unreadable(self) -> Iterator[str]:
        """The conversations whose items could not be read."""
        return (name for name, tail in self._tails.items() if tail.unreadable)


def load(lake: Lake) -> SyncState:
    """What the last sync left behind; an empty state where there is nothing to be made out."""
    return SyncState(_listings_of(lake), _tails_of(lake))


def save(lake: Lake, state: SyncState) -> None:
    """Keep the state for the next sync. Raises OSError when the disk fails; the old one stays."""
    folder = lake.root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    # Tails first. An order that is newer than its tails would pass over their conversations.
    _write(folder / "tails.parquet", _table(state._tails.values(), _TAILS))
    _write(folder / "listings.parquet", _table(state._listings.values(), _LISTINGS))


def forget_unfounded(con: duckdb.DuckDBPyConnection, lake: Lake, state: SyncState) -> int:
    """Forget what speaks of records that are not landed; returns of how many listings.

    A listing is believed if each conversation of its order is landed, and its last response; a
    conversation's end, if its last item is, and no fewer items than were read.
    """
    inputs = {
        "conversations": (CONVERSATIONS, lake.files("conversations")),
        "items": (ITEMS, lake.files("items")),
        "responses": (RESPONSES, lake.files("responses")),
    }
    engine.bind(con, inputs)
    con.register("tails", _table(state._tails.values(), _TAILS))
    listings = list(state.listings())
    con.register(
        "named",
        _table(
            [
                (number, name, None)
                for number, listing in enumerate(listings)
                for name in listing.order
            ]
            + [(number, None, it.response_cursor) for number, it in enumerate(listings)],
            _NAMED,
        ),
    )
    for (name,) in con.sql(engine.sql("unfounded_tails")).fetchall():
        state.drop_tail(name)
    unfounded = con.sql(engine.sql("unfounded_listings")).fetchall()
    for (number,) in unfounded:
        state.drop_listing(listings[number].api_key_id, listings[number].user_id)
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


def _visits(lake: Lake, day: date) -> Path:
    return lake.root / _FOLDER / "visits" / f"{day}.parquet"


_NAMED: Final = pa.schema(
    [
        pa.field("listing", pa.int64()),
        pa.field("conversation_id", pa.string()),
        pa.field("response_id", pa.string()),
    ]
)


def _listings_of(lake: Lake) -> dict[tuple[str, str | None], ListingState]:
    table = _read(lake.root / _FOLDER / "listings.parquet", _LISTINGS)
    columns = [_values(table, name) for name in _LISTINGS.names]
    found = map(ListingState._make, zip(*columns, strict=True))
    return {(listing.api_key_id, listing.user_id): listing for listing in found}


def _tails_of(lake: Lake) -> dict[str, TailState]:
    table = _read(lake.root / _FOLDER / "tails.parquet", _TAILS)
    columns = [_values(table, name) for name in _TAILS.names]
    names = columns[0]
    return dict(zip(names, map(TailState._make, zip(*columns, strict=True)), strict=True))


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
