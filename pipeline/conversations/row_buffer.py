"""What a sync has read, kept on disk until it is merged: its columns, within bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import pyarrow as pa

from pipeline.lake.schemas import CONVERSATIONS, ITEMS, RESPONSES

Kind = Literal["conversations", "items", "responses"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_SEEN_AT: Final = pa.field("seen_at", pa.timestamp("us", tz="UTC"))

_ADDED: Final = {"added_at", "added_at_source"}
_SEEN: Final = {"first_seen_at", "last_seen_at"}

SEEN: Final[dict[Kind, pa.Schema]] = {
    "conversations": pa.schema(
        [*(column for column in CONVERSATIONS.schema if column.name not in _SEEN), _SEEN_AT]
    ),
    "items": pa.schema(
        [
            *(column for column in ITEMS.schema if column.name not in _ADDED),
            _SEEN_AT,
            pa.field("body", pa.string()),
        ]
    ),
    "responses": pa.schema([*RESPONSES.schema, _SEEN_AT]),
}
"""The columns of a row as read: those of the dataset, and when it was seen. An item has no time of
its own, and its `body` is NULL unless its content is to be kept."""

_PART_ROWS: Final = 65_536
_PART_BYTES: Final = 32 << 20


@dataclass(slots=True)
class _Parts:
    files: list[Path] = field(default_factory=list[Path])
    waiting: list[pa.Table] = field(default_factory=list[pa.Table])
    waiting_rows: int = 0
    waiting_bytes: int = 0
    rows: int = 0


@dataclass(slots=True)
class RowBuffer:
    """The rows of one sync as Arrow files in a folder of their own, which must be there.

    The same thing may be seen several times, in several listings, in any order.
    """

    folder: Path
    _parts: dict[Kind, _Parts] = field(default_factory=lambda: {kind: _Parts() for kind in KINDS})

    def add(self, kind: Kind, columns: Mapping[str, Sequence[object]]) -> None:
        """Take in rows, column by column as SEEN names them; one that is left out is NULL.

        Times are Unix seconds and are kept to the microsecond. Raises ValueError for a column that
        SEEN does not have, columns of unequal length, and an id, a time of creation or a key that
        is NULL; pa.ArrowException for a value that is not of the column's type.
        """
        schema = SEEN[kind]
        unknown = sorted(set(columns) - set(schema.names))
        lengths = {len(values) for values in columns.values()}
        if unknown or len(lengths) != 1:
            raise ValueError(
                f"rows of {kind} have columns of one length, of {', '.join(schema.names)}; "
                f"{f'unknown: {unknown}' if unknown else f'lengths: {sorted(lengths)}'}"
            )
        (rows,) = lengths
        table = pa.table(
            [
                _array(columns[column.name], column.type)
                if column.name in columns
                else pa.nulls(rows, column.type)
                for column in schema
            ],
            schema=schema,
        )
        _refuse_nulls(kind, table)
        parts = self._parts[kind]
        parts.waiting.append(table)
        parts.rows += rows
        parts.waiting_rows += rows
        parts.waiting_bytes += table.nbytes
        if parts.waiting_rows >= _PART_ROWS or parts.waiting_bytes >= _PART_BYTES:
            self._flush(kind)

    def rows(self, kind: Kind) -> int:
        """Rows so far."""
        return self._parts[kind].rows

    def table(self, kind: Kind) -> pa.Table:
        """All rows so far, as SEEN: mapped from the files, so they need no memory."""
        self._flush(kind)
        parts = [
            pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            for path in self._parts[kind].files
        ]
        return pa.concat_tables([SEEN[kind].empty_table(), *parts])

    def _flush(self, kind: Kind) -> None:
        parts = self._parts[kind]
        if not parts.waiting_rows:
            return
        path = self.folder / f"seen-{kind}-{len(parts.files):06}.arrow"
        # In one piece: listings are small, and a reader works batch by batch.
        table = pa.concat_tables(parts.waiting).combine_chunks()
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        parts.files.append(path)
        parts.waiting, parts.waiting_rows, parts.waiting_bytes = [], 0, 0


def _array(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_timestamp(kind):
        return pa.array(values, kind)
    # A double is rounded, not cut: 0.1 s is 100,000 microseconds.
    micros = [None if value is None else round(float(str(value)) * 1e6) for value in values]
    return pa.array(micros, pa.int64()).cast(kind)


_REQUIRED: Final = ("id", "created_at", "seen_at")
_ALSO: Final[dict[Kind, tuple[str, ...]]] = {
    "conversations": ("api_key_id",),
    "items": ("conversation_id", "type"),
    "responses": ("api_key_id", "status"),
}


def _refuse_nulls(kind: Kind, table: pa.Table) -> None:
    for name in (*_REQUIRED, *_ALSO[kind]):
        if name in table.schema.names and table.column(name).null_count:
            raise ValueError(f"a row of {kind} has no {name}: it does not say what was seen")
