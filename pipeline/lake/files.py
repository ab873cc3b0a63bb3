"""One file of the lake: Parquet to the letter of the contract, and what its footer says.

Belongs here: writing rows so that equal rows make equal bytes, and comparing two files.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.schemas import Dataset
from pipeline.timeline import Window, day_window

# Arrow's own allocator keeps much of what is freed: the peak of a load is a sixth higher with it.
pa.set_memory_pool(pa.system_memory_pool())

ROW_GROUP: Final = 131_072
"""Rows per row group, exactly, so that equal rows make equal files."""

SCHEMA_VERSION: Final = "1"
DISPUTED: Final = "disputed_users"
"""Footer note: ids in the file that were listed for several users. A NULL alone would not say
whether a record is the key owner's own, so that a user seen later counts, or nobody's for good."""
_META: Final = b"mka1_usage"
_FIELD_ID: Final = b"PARQUET:field_id"
_OWNER_ONLY: Final = 0o600


class ContractError(Exception):
    """A file does not have the columns or the footer that the data contract says."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a day's file covers: the part of the day that had been asked for."""

    window: Window
    rows: int

    def complete(self, day: date) -> bool:
        """Whether the whole day was asked for, as opposed to a day that was still open."""
        return self.window == day_window(day)


class DayFile:
    """One file of the contract that is being written; use `with`.

    The rows must come in the contract's order, in pieces of any size. Memory is one row group. The
    footer says which window the file covers, and nothing of when or by whom it was written;
    `notes` are lists of ids that it says beside that, the empty ones left out.
    """

    def __init__(
        self,
        dataset: Dataset,
        path: Path,
        window: Window,
        notes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        facts = {
            "dataset": dataset.name,
            "schema": SCHEMA_VERSION,
            "start": window.start,
            "end": window.end,
            **{name: sorted(ids) for name, ids in (notes or {}).items() if ids},
        }
        metadata = {_META: json.dumps(facts, sort_keys=True).encode()}
        schema = _with_ids(dataset).with_metadata(metadata)
        self.rows = 0
        self._path = path
        self._groups = _RowGroups(dataset.schema)
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if kind is None:
                self._write(self._groups.rest())
        self._path.chmod(_OWNER_ONLY)

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write more rows."""
        for batch in batches:
            self._write(self._groups.add(batch))

    def _write(self, groups: Iterable[pa.Table]) -> None:
        for group in groups:
            self._writer.write_table(group, row_group_size=ROW_GROUP)
            self.rows += group.num_rows


def write(
    dataset: Dataset,
    batches: Iterable[pa.RecordBatch],
    path: Path,
    window: Window,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Write all rows of a `DayFile`; returns how many."""
    with DayFile(dataset, path, window, notes) as file:
        file.add(batches)
    return file.rows


def covered(path: Path | str, source: BinaryIO | None = None) -> Loaded:
    """What a file's footer says of it. ContractError where it is not a file of the lake.

    `source` is the file itself, where it is elsewhere than on a disk.
    """
    metadata = pq.read_metadata(source or path)
    try:
        facts = json.loads(metadata.metadata[_META])
        return Loaded(Window(facts["start"], facts["end"]), metadata.num_rows)
    except (KeyError, TypeError, ValueError):
        raise ContractError(f"{path}: the footer does not say which window it covers") from None


def noted(path: Path, name: str) -> list[str]:
    """The ids that a file's footer lists under a name of `write`'s notes; none without a note."""
    facts = json.loads((pq.read_metadata(path).metadata or {}).get(_META, b"{}"))
    return [str(one) for one in facts.get(name, ())]


def row_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A file's rows, or some columns of them, a row group at a time: that is all the memory."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(ROW_GROUP, columns=columns)


def read_through(path: Path) -> None:
    """Read all of a file; raises what pyarrow raises where that is not possible."""
    for _ in row_groups(path):
        pass


def same_but_for(ignored: frozenset[str], old: Path, new: Path) -> bool:
    """Whether two files say the same but for some columns; False where one can't be read."""
    try:
        with pq.ParquetFile(old) as before, pq.ParquetFile(new) as after:
            if (
                before.schema_arrow != after.schema_arrow
                or _facts(before) != _facts(after)
                or before.metadata.num_rows != after.metadata.num_rows
            ):
                return False
            columns = [name for name in after.schema_arrow.names if name not in ignored]
            pairs = zip_longest(
                before.iter_batches(ROW_GROUP, columns=columns),
                after.iter_batches(ROW_GROUP, columns=columns),
            )
            return all(one is not None and one.equals(other) for one, other in pairs)
    except (OSError, pa.ArrowException):
        return False


def check_contract(dataset: Dataset, path: Path) -> None:
    """Raise ContractError unless the file's columns are the contract's, in order and type."""
    found = pq.read_schema(path).remove_metadata()
    if found != dataset.schema:
        raise ContractError(
            f"{dataset.name}: the contract says {_columns(dataset.schema)}, "
            f"the file has {_columns(found)}"
        )


def same(dataset: Dataset, old: Path, new: Path) -> bool:
    """Whether two files say the same: equal bytes or rows, the volatile columns left out.

    Rows are compared where bytes differ: files of older versions have no ids of columns. A file
    that is not there or cannot be read is not the same as any: it is to be replaced.
    """
    try:
        if not dataset.volatile and filecmp.cmp(old, new, shallow=False):
            return True
    except OSError:
        return False
    return same_but_for(dataset.volatile, old, new)


def _facts(file: pq.ParquetFile) -> bytes | None:
    """What a footer says of a file beside its columns."""
    found: bytes | None = (file.metadata.metadata or {}).get(_META)
    return found


def regrouped(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in tables of exactly ROW_GROUP rows, the last one shorter."""
    groups = _RowGroups(schema)
    for batch in batches:
        yield from groups.add(batch)
    yield from groups.rest()


class _RowGroups:
    """Rows in tables of exactly ROW_GROUP rows, the last one shorter.

    Each column in one piece: where pieces meet is where Parquet may begin a new data page, and how
    rows come in batches depends on how many threads there were.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._held: list[pa.RecordBatch] = []
        self._count = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Take in rows; those groups that are full now."""
        self._held.append(batch)
        self._count += batch.num_rows
        while self._count >= ROW_GROUP:
            table = pa.Table.from_batches(self._held)
            yield table.slice(0, ROW_GROUP).combine_chunks().cast(self._schema)
            self._held = table.slice(ROW_GROUP).to_batches()
            self._count -= ROW_GROUP

    def rest(self) -> Iterator[pa.Table]:
        """What is left at the end."""
        if self._count:
            yield pa.Table.from_batches(self._held).combine_chunks().cast(self._schema)


def _with_ids(dataset: Dataset) -> pa.Schema:
    """The contract's columns with their ids, by which Iceberg finds them."""
    ids = dataset.field_ids
    return pa.schema(
        [field.with_metadata({_FIELD_ID: str(ids[field.name])}) for field in dataset.schema]
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
