"""The next snapshot of one table: the files of some days replaced by others.

Belongs here: what Iceberg wants to be written for it. The entries of a month stand in one file of
entries, so a commit reads and writes as much for the first day as for the thousandth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from uuid import uuid4

import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    RemoveSnapshotsUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)
from pyiceberg.typedef import Record
from pyiceberg.types import TimestamptzType

from pipeline.lake.schemas import Dataset
from pipeline.shared_lake.catalogs import TableCommit
from pipeline.shared_lake.errors import SharedLakeError
from pipeline.timeline import DAY, day_of, day_window

KEPT_SECONDS: Final = DAY
"""How long what was replaced can still be read by those who had begun to."""
KEPT_SNAPSHOTS: Final = 32
"""How many a table lists beside that of the last commit: each commit reads and writes them all."""
_CODEC: Final = "deflate"


@dataclass(frozen=True, slots=True)
class Entries:
    """The files of a table, with what says where each is listed."""

    manifest: ManifestFile
    of_days: tuple[ManifestEntry, ...]


def number(day: date) -> int:
    """A day as a partition's value: days since 1970."""
    return day_window(day).start // DAY


def day_of_file(file: DataFile) -> date:
    """The day of a file, by its partition."""
    value = file.partition[0]
    return value if isinstance(value, date) else day_of(int(value) * DAY)


def files_by_day(table: Table, days: Iterable[date] | None = None) -> dict[date, DataFile]:
    """The file of each day (of all by default) that a table has now, those without rows too."""
    wanted = None if days is None else set(days)
    if wanted is not None and not wanted:
        return {}
    found: dict[date, DataFile] = {}
    for manifest in _manifests(table.metadata, table.io):
        if wanted is not None and not _overlaps(manifest, min(wanted), max(wanted)):
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            day = day_of_file(entry.data_file)
            if wanted is None or day in wanted:
                if day in found:
                    raise SharedLakeError(
                        f"{table.name()[-1]} has two files of {day}, which this mka1-usage never "
                        "commits: remove what another program has added"
                    )
                found[day] = entry.data_file
    return dict(sorted(found.items()))


def data_file(
    table: Table, dataset: Dataset, day: date, location: str, size: int, footer: pq.FileMetaData
) -> DataFile:
    """A file as a table has it. SharedLakeError where a row of it is not of the day."""
    schema = table.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=footer,
        stats_columns=compute_statistics_plan(schema, table.metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=Record(number(day)),
        file_size_in_bytes=size,
        sort_order_id=table.metadata.default_sort_order_id,
        spec_id=table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
    if dataset.partitioned_by is not None:
        _check_day(file, dataset, day)
    return file


def _check_day(file: DataFile, dataset: Dataset, day: date) -> None:
    """What engines take for rows of other days they would never find, or remove with them."""
    column = dataset.field_ids[dataset.partitioned_by or ""]
    for bounds in (file.lower_bounds, file.upper_bounds):
        if column in (bounds or {}):
            moment = int(from_bytes(TimestamptzType(), bounds[column]))
            if moment // (DAY * 1_000_000) != number(day):
                raise SharedLakeError(
                    f"{dataset.name} of {day} has a row of {day_of(moment // 1_000_000)}: load the "
                    "day again"
                )


def change(
    table: Table, wanted: Mapping[date, DataFile | None], now: datetime
) -> TableCommit | None:
    """A commit by which each of the days has this file, or none; None where that is so already."""
    touched, kept = _touched(table, wanted)
    live = [entry for one in touched for entry in one.of_days]
    standing = {day_of_file(entry.data_file): entry for entry in live}
    added = [
        file
        for day, file in wanted.items()
        if file is not None
        and (day not in standing or standing[day].data_file.file_path != file.file_path)
    ]
    replaced = {day_of_file(file) for file in added} | {
        day for day, file in wanted.items() if file is None
    }
    removed = [entry for day, entry in standing.items() if day in replaced]
    if not added and not removed:
        return None
    writing = _Writing(table, now)
    rest = [entry for day, entry in standing.items() if day not in replaced]
    return writing.commit(kept, rest, added, removed)


class _Writing:
    """What one snapshot of a table takes to be written."""

    def __init__(self, table: Table, now: datetime) -> None:
        self._table = table
        self._metadata = table.metadata
        self._id = self._metadata.new_snapshot_id()
        self._now = now
        self._name = uuid4()
        self._locations = table.location_provider()

    def commit(
        self,
        kept: list[ManifestFile],
        rest: list[ManifestEntry],
        added: list[DataFile],
        removed: list[ManifestEntry],
    ) -> TableCommit:
        """Write the entries by month, and the list of them."""
        months: dict[tuple[int, int], list[tuple[ManifestEntryStatus, Any]]] = {}

        def note(file: DataFile, status: ManifestEntryStatus, entry: ManifestEntry | None) -> None:
            day = day_of_file(file)
            months.setdefault((day.year, day.month), []).append((status, entry or file))

        for entry in rest:
            note(entry.data_file, ManifestEntryStatus.EXISTING, entry)
        for entry in removed:
            note(entry.data_file, ManifestEntryStatus.DELETED, entry)
        for file in added:
            note(file, ManifestEntryStatus.ADDED, None)
        manifests = [self._manifest(n, of) for n, (_, of) in enumerate(sorted(months.items()))]
        snapshot = self._snapshot([*manifests, *kept], added, removed)
        branch = self._metadata.refs.get(MAIN_BRANCH)
        updates: tuple[TableUpdate, ...] = (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate.model_validate(
                {"ref_name": MAIN_BRANCH, "type": "branch", "snapshot_id": self._id}
            ),
        )
        if old := outdated(self._metadata, self._now):
            updates = (*updates, dropping(old))
        standing = branch.snapshot_id if branch else None
        return TableCommit(self._table, (still_at(standing),), updates)

    def _manifest(self, place: int, entries: list[tuple[ManifestEntryStatus, Any]]) -> ManifestFile:
        location = self._locations.new_metadata_location(f"{self._name}-m{place}.avro")
        with write_manifest(
            format_version=2,
            spec=self._metadata.spec(),
            schema=self._metadata.schema(),
            output_file=self._table.io.new_output(location),
            snapshot_id=self._id,
            avro_compression=_CODEC,
        ) as writer:
            for status, one in entries:
                if status == ManifestEntryStatus.EXISTING:
                    writer.existing(one)
                elif status == ManifestEntryStatus.DELETED:
                    writer.delete(_without_values(one))
                else:
                    writer.add(ManifestEntry.from_args(status=status, data_file=one))
        return writer.to_manifest_file()

    def _snapshot(
        self,
        manifests: list[ManifestFile],
        added: list[DataFile],
        removed: list[ManifestEntry],
    ) -> Snapshot:
        before = self._metadata.current_snapshot()
        parent = before.snapshot_id if before else None
        sequence = self._metadata.next_sequence_number()
        location = self._locations.new_metadata_location(f"snap-{self._id}-0-{self._name}.avro")
        with write_manifest_list(
            format_version=2,
            output_file=self._table.io.new_output(location),
            snapshot_id=self._id,
            parent_snapshot_id=parent,
            sequence_number=sequence,
            avro_compression=_CODEC,
        ) as writer:
            writer.add_manifests(manifests)
        collected = SnapshotSummaryCollector()
        schema, spec = self._metadata.schema(), self._metadata.spec()
        for file in added:
            collected.add_file(file, schema, spec)
        for entry in removed:
            collected.remove_file(entry.data_file, schema, spec)
        operation = Operation.OVERWRITE if removed else Operation.APPEND
        summary = Summary(operation=operation, **collected.build())
        return Snapshot.model_validate(
            {
                "snapshot_id": self._id,
                "parent_snapshot_id": parent,
                "sequence_number": sequence,
                "timestamp_ms": int(self._now.timestamp() * 1_000),
                "manifest_list": location,
                "summary": update_snapshot_summaries(summary, before.summary if before else None),
                "schema_id": self._metadata.current_schema_id,
            }
        )


def _without_values(entry: ManifestEntry) -> ManifestEntry:
    """The entry of a file that is removed: nobody reads the least and greatest of its values, which
    can be ids of people who are forgotten."""
    file = entry.data_file
    fields = [field.name for field in DATA_FILE_TYPE[2].fields]
    values = {name: file[place] for place, name in enumerate(fields)}
    bare = DataFile.from_args(**values | {"lower_bounds": None, "upper_bounds": None})
    bare.spec_id = file.spec_id
    return ManifestEntry.from_args(
        status=entry.status,
        snapshot_id=entry.snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=bare,
    )


def still_at(snapshot: int | None) -> AssertRefSnapshotId:
    """That a table's snapshot still is this one; None: that it has none."""
    return AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot_id": snapshot})


def dropping(snapshots: list[int]) -> RemoveSnapshotsUpdate:
    """That a table has these snapshots no more."""
    return RemoveSnapshotsUpdate.model_validate({"snapshot_ids": snapshots})


def outdated(
    metadata: TableMetadata, now: datetime, kept_seconds: float = KEPT_SECONDS
) -> list[int]:
    """The snapshots that were replaced longer ago than that, or by more than KEPT_SNAPSHOTS since,
    and that no name leads to."""
    before = int((now - timedelta(seconds=kept_seconds)).timestamp() * 1_000)
    named = {ref.snapshot_id for ref in metadata.refs.values()}
    ordered = sorted(metadata.snapshots, key=lambda one: one.sequence_number or 0)
    many = len(ordered) - KEPT_SNAPSHOTS
    return [
        one.snapshot_id
        for place, (one, successor) in enumerate(pairwise(ordered))
        if (place < many or successor.timestamp_ms < before) and one.snapshot_id not in named
    ]


def _manifests(metadata: TableMetadata, io: FileIO) -> Iterator[ManifestFile]:
    snapshot = metadata.current_snapshot()
    for one in snapshot.manifests(io) if snapshot else ():
        if one.content == ManifestContent.DATA:
            yield one


def _touched(
    table: Table, wanted: Mapping[date, DataFile | None]
) -> tuple[list[Entries], list[ManifestFile]]:
    """The lists of entries that hold a day of the months of `wanted`, read, and the others."""
    first, last = min(wanted).replace(day=1), _end_of_month(max(wanted))
    touched: list[Entries] = []
    kept: list[ManifestFile] = []
    snapshot = table.metadata.current_snapshot()
    for one in snapshot.manifests(table.io) if snapshot else ():
        if one.content == ManifestContent.DATA and _overlaps(one, first, last):
            read = one.fetch_manifest_entry(table.io, discard_deleted=True)
            touched.append(Entries(one, tuple(read)))
        else:
            kept.append(one)
    return touched, kept


def _end_of_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def _overlaps(manifest: ManifestFile, first: date, last: date) -> bool:
    """Whether a list of entries may have a file of the days from `first` through `last`."""
    if not manifest.partitions:
        return True
    bounds = (manifest.partitions[0].lower_bound, manifest.partitions[0].upper_bound)
    low, high = (None if it is None else int.from_bytes(it, "little", signed=True) for it in bounds)
    if low is None or high is None:
        return True
    return low <= number(last) and high >= number(first)


def utc(now: float) -> datetime:
    """Unix seconds as a moment."""
    return datetime.fromtimestamp(now, UTC)
