"""The lake on disk: one file per dataset and UTC day, written aside and renamed into place.

Belongs here: paths, staging, atomic publication, what is loaded. Does not belong here: what the
rows mean (`sql/`, `pipeline.lake.rollup`) or the views over them (`pipeline.lake.catalog`).

    <home>/lake/<dataset>/day=YYYY-MM-DD/<dataset>.parquet
    <home>/lake/.staging/…      unfinished work of running loads; no reader's glob matches it

A day without rows is a file without rows: zero is not the same as not loaded. A day is replaced
whole, never merged, so a row that the API took back goes. A day whose content is what is there
already is left alone: the same input leaves the same bytes, whoever loads it and how often.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from pipeline.lake.schemas import DATASETS, Dataset
from pipeline.timeline import Window, day_window

ROW_GROUP: Final = 131_072
"""Rows per row group, exactly, so that equal rows make equal files."""

SCHEMA_VERSION: Final = "1"
_META: Final = b"mka1_usage"
_ABANDONED_AFTER: Final = 2 * 86_400.0
"""Seconds after which a staging folder belongs to a load that was killed."""


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


class Lake:
    """The Parquet files under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def path(self, dataset: str, day: date) -> Path:
        """Where the dataset's file of a day stands, or will."""
        return self.root / dataset / f"day={day.isoformat()}" / f"{dataset}.parquet"

    def days(self, dataset: str) -> list[date]:
        """The days that are loaded, in order."""
        found = (self.root / dataset).glob(f"day=????-??-??/{dataset}.parquet")
        return sorted(date.fromisoformat(path.parent.name.removeprefix("day=")) for path in found)

    def files(self, dataset: str, days: Iterable[date] | None = None) -> list[Path]:
        """The files of the days that are loaded among `days` (all by default), in order."""
        loaded = self.days(dataset)
        wanted = set(loaded if days is None else days)
        return [self.path(dataset, day) for day in loaded if day in wanted]

    def loaded(self, dataset: str, day: date) -> Loaded | None:
        """What the day's file covers; None where it is not loaded."""
        try:
            return covered(self.path(dataset, day))
        except FileNotFoundError:
            return None

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of one's own for unfinished files, beside the lake's; gone at the end."""
        parent = self.root / ".staging"
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            _remove(folder)

    def lock(self, name: str) -> FileLock:
        """To be held (`with`) by one at a time, of all threads and processes on this machine."""
        folder = self.root / ".staging"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    def publish(self, day: date, staged: Mapping[str, Path]) -> list[str]:
        """Rename finished files into place as the day's; returns the datasets that changed.

        Every file is checked against the contract and flushed to disk before the first rename, and
        one publication goes on at a time. Raises ContractError, or OSError when the disk fails, and
        leaves the day as it was. (A process killed between two renames leaves a day half new:
        `audit.totals` finds it where it matters, and loading the day again makes it whole.)
        """
        for name, path in staged.items():
            check_contract(DATASETS[name], path)
        with self.lock("publish"):
            places = {name: self.path(name, day) for name in staged}
            changed = [
                name for name in staged if not _same(DATASETS[name], places[name], staged[name])
            ]
            for name in changed:
                _flush(staged[name])
            _rename([(staged[name], places[name]) for name in changed])
        return changed


def write(
    dataset: Dataset,
    batches: Iterable[pa.RecordBatch],
    path: Path,
    window: Window,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Write batches of rows as one file of the contract; returns the number of rows.

    The rows must come in the contract's order. Memory is one row group. The footer says which
    window the file covers, and nothing of when or by whom it was written; `notes` are lists of ids
    that it says beside that, the empty ones left out.
    """
    schema = dataset.schema
    facts = {
        "dataset": dataset.name,
        "schema": SCHEMA_VERSION,
        "start": window.start,
        "end": window.end,
        **{name: sorted(ids) for name, ids in (notes or {}).items() if ids},
    }
    metadata = {_META: json.dumps(facts, sort_keys=True).encode()}
    rows = 0
    with pq.ParquetWriter(path, schema.with_metadata(metadata), compression="zstd") as writer:
        for table in _regrouped(batches, schema):
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
    return rows


def covered(path: Path) -> Loaded:
    """What a file's footer says of it. ContractError where it is not a file of the lake."""
    metadata = pq.read_metadata(path)
    try:
        facts = json.loads(metadata.metadata[_META])
        return Loaded(Window(facts["start"], facts["end"]), metadata.num_rows)
    except (KeyError, TypeError, ValueError):
        raise ContractError(f"{path}: the footer does not say which window it covers") from None


def noted(path: Path, name: str) -> list[str]:
    """The ids that a file's footer lists under a name of `write`'s notes; none without a note."""
    facts = json.loads((pq.read_metadata(path).metadata or {}).get(_META, b"{}"))
    return [str(one) for one in facts.get(name, ())]


def same_but_for(ignored: frozenset[str], old: Path, new: Path) -> bool:
    """Whether two files say the same but for some columns; False where one can't be read."""
    try:
        return _same_but_for(ignored, old, new)
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


def _regrouped(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in tables of exactly ROW_GROUP rows, the last one shorter.

    Each column in one piece: where pieces meet is where Parquet may begin a new data page, and how
    rows come in batches depends on how many threads there were.
    """
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= ROW_GROUP:
            table = pa.Table.from_batches(held)
            yield table.slice(0, ROW_GROUP).combine_chunks().cast(schema)
            held = table.slice(ROW_GROUP).to_batches()
            count -= ROW_GROUP
    if count:
        yield pa.Table.from_batches(held).combine_chunks().cast(schema)


def _same(dataset: Dataset, old: Path, new: Path) -> bool:
    """Whether two files say the same: equal bytes, or equal but for the volatile columns.

    A file that is not there or cannot be read is not the same as any: it is to be replaced.
    """
    if dataset.volatile:
        return same_but_for(dataset.volatile, old, new)
    try:
        return filecmp.cmp(old, new, shallow=False)
    except OSError:
        return False


def _same_but_for(volatile: frozenset[str], old: Path, new: Path) -> bool:
    with pq.ParquetFile(old) as before, pq.ParquetFile(new) as after:
        if (
            before.schema_arrow != after.schema_arrow
            or before.metadata.metadata != after.metadata.metadata
            or before.metadata.num_rows != after.metadata.num_rows
        ):
            return False
        columns = [name for name in after.schema_arrow.names if name not in volatile]
        pairs = zip_longest(
            before.iter_batches(ROW_GROUP, columns=columns),
            after.iter_batches(ROW_GROUP, columns=columns),
        )
        return all(one is not None and one.equals(other) for one, other in pairs)


def _rename(renames: Sequence[tuple[Path, Path]]) -> None:
    """Rename each staged file to its place: all of them or, when anything fails, none."""
    before: list[tuple[Path, Path | None]] = []
    try:
        for path, place in renames:
            place.parent.mkdir(parents=True, exist_ok=True)
            before.append((place, _keep(place, path.with_suffix(".before"))))
            path.replace(place)
        for place, kept in before:
            _flush(place.parent)
            if kept is None:  # the day's folder may be new as well
                _flush(place.parent.parent)
    except BaseException:
        for place, kept in before:
            if kept is None:
                place.unlink(missing_ok=True)
            else:
                kept.replace(place)
        raise


def _keep(path: Path, aside: Path) -> Path | None:
    """The file under a second name, to go back to; None where there is no file."""
    if not path.exists():
        return None
    try:
        os.link(path, aside)
    except OSError:  # not every file system has hard links
        shutil.copy2(path, aside)
    return aside


def _flush(path: Path) -> None:
    """Make a file's or a folder's content survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(parent: Path) -> None:
    """Remove what loads that were killed left behind."""
    for folder in parent.iterdir():
        try:
            age = time.time() - folder.stat().st_mtime
        except FileNotFoundError:  # its load has ended in the meantime
            continue
        if folder.is_dir() and age > _ABANDONED_AFTER:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, also when a thread of a load that failed is still writing into it.

    Renamed first: what comes late finds no folder, and can't keep this one from being removed.
    """
    with suppress(OSError):
        folder = folder.rename(folder.with_name(f"{folder.name}.removed"))
    shutil.rmtree(folder, ignore_errors=True)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
