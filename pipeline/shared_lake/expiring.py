"""What no reader of the last day needs is removed: old snapshots, then files that none refers to.

A snapshot stays for a day after it was replaced, and with it all that it refers to. A file that
nothing refers to stays for a day after it was written: a commit that is under way may be about to
refer to it. A version of a table's metadata stays for a day after it was replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from pipeline.shared_lake import storage, tables
from pipeline.shared_lake.catalogs import SharedCatalog, TableCommit
from pipeline.shared_lake.errors import SharedLakeError
from pipeline.shared_lake.storage import Stored
from pipeline.shared_lake.table_change import KEPT_SECONDS, dropping, outdated, still_at, utc
from pipeline.shared_lake.tables import TABLES

_TRIES: Final = 10
_AT_ONCE: Final = 8


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
    for name in TABLES:
        dropped, table = _drop_snapshots(catalog, name, utc(now), kept_seconds)
        snapshots += dropped
        if table is None:
            continue
        # What is referred to is looked up after what is there: what comes between is young.
        there = list(_there(io, table, f"{root}/{name}"))
        current = catalog.load_table(table.name())
        needed = set(_needed(current))
        old = [one for one in there if one.location not in needed and one.at <= now - kept_seconds]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda one: storage.remove_file(io, one.location), old))
        files += len(old)
        size += sum(one.size for one in old)
    return Expired(snapshots, files, size)


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


def _needed(table: Table) -> Iterator[str]:
    """What the table as it stands refers to, and the metadata of itself."""
    yield table.metadata_location
    read: dict[str, ManifestFile] = {}
    for snapshot in table.metadata.snapshots:
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            read[manifest.manifest_path] = manifest
    yield from read
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        entries = pool.map(lambda one: one.fetch_manifest_entry(table.io), read.values())
        for of_manifest in entries:
            yield from (entry.data_file.file_path for entry in of_manifest)
    for one in table.metadata.metadata_log:
        yield one.metadata_file
