"""What no reader of the last day needs is removed: old snapshots, then files that none refers to.

What a snapshot refers to stays for a day after it was replaced. The table may list it no more by
then: the versions of its metadata that were written in the last day do, and stay as long. A file
that nothing refers to stays for a day after it was written: a commit that is under way may be about
to refer to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from pipeline.shared_lake import published, storage, tables
from pipeline.shared_lake.catalogs import SharedCatalog, TableCommit
from pipeline.shared_lake.errors import SharedLakeError
from pipeline.shared_lake.locations import location_of
from pipeline.shared_lake.storage import Stored
from pipeline.shared_lake.table_change import (
    KEPT_SECONDS,
    KEPT_SNAPSHOTS,
    dropping,
    outdated,
    still_at,
    utc,
)
from pipeline.shared_lake.tables import TABLES

_TRIES: Final = 10
_AT_ONCE: Final = 8
_METADATA: Final = ".metadata.json"


@dataclass(frozen=True, slots=True)
class Expired:
    """What was removed."""

    snapshots: int
    files: int
    bytes: int


def expire(
    catalog: SharedCatalog,
    io: FileIO,
    root: str,
    now: float,
    *,
    kept_seconds: float = KEPT_SECONDS,
) -> Expired:
    """Remove what no reader of the last day needs, at `now` (Unix seconds); with other
    `kept_seconds`, what nobody has needed for so long."""
    snapshots = files = size = 0
    named = _named(catalog, root)
    for name in TABLES:
        dropped, table = _drop_snapshots(catalog, name, utc(now), kept_seconds)
        snapshots += dropped
        if table is None:
            continue
        # What is referred to is looked up after what is there: what comes between is young.
        there = list(_there(io, table, f"{root}/{name}"))
        current = catalog.load_table(table.name())
        needed = {*_needed(current, _recent(io, there, now, kept_seconds)), *named}
        old = [one for one in there if one.location not in needed and one.at <= now - kept_seconds]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda one: storage.remove_file(io, one.location), old))
        files += len(old)
        size += sum(one.size for one in old)
    return Expired(snapshots, files, size)


def _named(catalog: SharedCatalog, root: str) -> set[str]:
    """The files that the manifests of days name.

    Their tables refer to them too, but where a catalog changed one table after the other and a
    commit ended half-way: what stands is what the manifest says, and workers hydrate that.
    """
    return {
        location_of(root, name, day, entry.sha256)
        for day, of in published.read(catalog).items()
        for name, entry in of.manifest.files.items()
    }


def _drop_snapshots(
    catalog: SharedCatalog, name: str, now: datetime, kept_seconds: float
) -> tuple[int, Table | None]:
    """How many snapshots were dropped, and the table; it is begun anew where others commit."""
    for _ in range(_TRIES):
        table = tables.load(catalog, name)
        old = [] if table is None else outdated(table.metadata, now, kept_seconds)
        if table is None or not old:
            return 0, table
        head = table.metadata.current_snapshot_id
        commit = TableCommit(
            table,
            (still_at(head),),
            (dropping(old),),
        )
        try:
            catalog.commit_together([commit])
        except CommitFailedException:
            continue
        return len(old), catalog.load_table(table.name())
    raise SharedLakeError(f"{name}: other workers commit all the time; run the same again later")


def _there(io: FileIO, table: Table, folder: str) -> Iterator[Stored]:
    """All files of a table: some catalogs keep its metadata in a folder of their own."""
    yield from storage.list_files(io, folder)
    if table.location().rstrip("/") != folder:
        yield from storage.list_files(io, table.location())


def _recent(
    io: FileIO, there: Iterable[Stored], now: float, kept_seconds: float
) -> list[TableMetadata]:
    """Versions of a table's metadata of the last day that list all its snapshots of that day.

    Each lists the last KEPT_SNAPSHOTS, so one of so many is enough, and one of half as many surely.
    """
    young = [
        one for one in there if one.location.endswith(_METADATA) and one.at > now - kept_seconds
    ]
    young.sort(key=lambda one: one.at, reverse=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        some = young[:: max(1, KEPT_SNAPSHOTS // 2)]
        read = pool.map(lambda one: _metadata(io, one.location), some)
        return [metadata for metadata in read if metadata is not None]


def _metadata(io: FileIO, location: str) -> TableMetadata | None:
    """None where it was removed meanwhile, or a worker was killed while it wrote it."""
    try:
        return FromInputFile.table_metadata(io.new_input(location))
    except (FileNotFoundError, ValueError):
        return None


def _needed(table: Table, recent: Iterable[TableMetadata]) -> Iterator[str]:
    """What the table refers to, or did in the last day; and its own metadata."""
    yield table.metadata_location
    yield from (one.metadata_file for one in table.metadata.metadata_log)
    standing = {one.snapshot_id: one for one in table.metadata.snapshots}
    before = {one.snapshot_id: one for metadata in recent for one in metadata.snapshots}
    found: dict[str, list[str]] = {}
    _refer(table.io, standing.values(), found)
    others = [one for one in before.values() if one.snapshot_id not in standing]
    _refer(table.io, others, found, may_be_gone=True)
    for location, files in found.items():
        yield location
        yield from files


def _refer(
    io: FileIO,
    snapshots: Iterable[Snapshot],
    found: dict[str, list[str]],
    *,
    may_be_gone: bool = False,
) -> None:
    """Note lists that snapshots refer to, with the files that each of them names.

    Those of a commit that was refused a day ago may be gone; those of the table must not be.
    """

    def lists(snapshot: Snapshot) -> list[ManifestFile]:
        with suppress(*[FileNotFoundError] if may_be_gone else []):
            return snapshot.manifests(io)
        return []

    def files(manifest: ManifestFile) -> list[str]:
        with suppress(*[FileNotFoundError] if may_be_gone else []):
            return [one.data_file.file_path for one in manifest.fetch_manifest_entry(io)]
        return []

    snapshots = list(snapshots)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        listed = {one.manifest_path: one for of in pool.map(lists, snapshots) for one in of}
        new = [one for path, one in listed.items() if path not in found]
        found.update((one.manifest_list, []) for one in snapshots)
        found.update(zip((one.manifest_path for one in new), pool.map(files, new), strict=True))
