"""Is the shared lake what its manifests say? Each table held against them, each file read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyiceberg.io import FileIO

from pipeline.lake.manifest import FileEntry
from pipeline.lake.schemas import DATASETS
from pipeline.messages import count
from pipeline.shared_lake import published, storage, tables
from pipeline.shared_lake.catalogs import NAME, SharedCatalog
from pipeline.shared_lake.locations import location_of
from pipeline.shared_lake.published import Standing
from pipeline.shared_lake.table_change import files_by_day

_AT_ONCE: Final = 8
_AGAIN: Final = "load the day again"


@dataclass(frozen=True, slots=True)
class SharedProblem:
    """What is wrong with a file or a table of the shared lake on a day, and what to do."""

    where: str
    day: date
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def verify(
    catalog: SharedCatalog, io: FileIO, root: str, days: Iterable[date] | None
) -> Iterator[SharedProblem]:
    """What is not as it was published, of these days (None: all)."""
    asked = None if days is None else set(days)
    standing = published.read(catalog, asked)
    for name in DATASETS:
        yield from _of_table(catalog, root, name, standing, asked)
    files = [
        (name, day, entry)
        for day, of in standing.items()
        for name, entry in of.manifest.files.items()
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for problem in pool.map(lambda it: _of_file(io, root, *it), files):
            if problem is not None:
                yield problem


def _of_table(
    catalog: SharedCatalog,
    root: str,
    name: str,
    standing: Mapping[date, Standing],
    asked: set[date] | None,
) -> Iterator[SharedProblem]:
    """Days of which a table has another file than their manifest says."""
    table = tables.load(catalog, name)
    found = {} if table is None else files_by_day(table, asked)
    manifests = {day: of.manifest.files for day, of in standing.items()}
    for day in sorted({*found, *manifests}):
        entry = manifests.get(day, {}).get(name)
        expected = None if entry is None else location_of(root, name, day, entry.sha256)
        there = found[day].file_path if day in found else None
        if there != expected:
            what = f"it has {_shown(there)} for {day}, the manifest says {_shown(expected)}"
            yield SharedProblem(f"{NAME}.{name}", day, f"{what}: {_AGAIN}")


def _of_file(io: FileIO, root: str, name: str, day: date, entry: FileEntry) -> SharedProblem | None:
    location = location_of(root, name, day, entry.sha256)
    where = storage.shown(location)
    try:
        size, sha256 = storage.digest(io, location)
    except FileNotFoundError:
        return SharedProblem(where, day, f"removed: {_AGAIN}")
    except OSError as error:
        return SharedProblem(where, day, f"can't be read: {error}")
    if (size, sha256) != (entry.bytes, entry.sha256):
        what = f"changed: it has {count(size, 'byte')}, the manifest says {entry.bytes:,}"
        return SharedProblem(where, day, f"{what}: {_AGAIN}")
    return None


def _shown(location: str | None) -> str:
    return "no file" if location is None else storage.shown(location)
