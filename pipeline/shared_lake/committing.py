"""Versions of a home become the days of the shared lake: all tables of all days, at once or not.

Belongs here: the order of things. Files are put into the warehouse first, named by their hash, and
nothing refers to them. Then one commit lets all of them count, if no day has moved. Whatever ends
it before leaves files that `expire` removes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow.parquet as pq
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from pipeline.lake.manifest import FileEntry, digest, manifest_from
from pipeline.lake.schemas import COVERAGE
from pipeline.shared_lake import published, storage, tables
from pipeline.shared_lake.catalogs import SharedCatalog, TableCommit
from pipeline.shared_lake.errors import DaysMovedError, SharedLakeError
from pipeline.shared_lake.locations import location_of
from pipeline.shared_lake.table_change import change, data_file, files_by_day, utc
from pipeline.shared_lake.tables import PUBLISHED_DAYS, TABLES

_TRIES: Final = 50
"""How often a commit is begun anew where other days were committed at the same moment."""
_LONGEST_WAIT: Final = 0.5
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class DayToCommit:
    """A day as it is to stand: its manifest, word by word, and where its files are.

    `based_on` is the name of what stood when it was hydrated; None: nothing did. With `put_all`,
    files that stand there already are put there again.
    """

    text: str
    paths: Mapping[str, Path]
    based_on: str | None
    put_all: bool = False


@dataclass(frozen=True, slots=True)
class _Ready:
    """A day whose new files are in the warehouse: the name that it gets, and what was there."""

    name: str
    based_on: str | None
    files: Mapping[str, FileEntry]
    before: Mapping[str, FileEntry]

    def changed(self, name: str) -> bool:
        """Whether a table has another file of the day from now on."""
        new, old = self.files.get(name), self.before.get(name)
        return (new and new.sha256) != (old and old.sha256)


class Committed(NamedTuple):
    """The name by which each day stands, and the days that stood otherwise before."""

    names: Mapping[date, str]
    changed: list[date]


def _require(standing: Mapping[date, str], days: Mapping[date, DayToCommit | _Ready]) -> None:
    """DaysMovedError where another name stands of a day than when it was hydrated."""
    moved = [day for day, of in days.items() if standing.get(day) != of.based_on]
    if moved:
        raise DaysMovedError(moved)


class Committing:
    """One commit of several days. `root` is the folder of all tables; `folder` is for scratch.

    `check` gets `published_days` as it is before each attempt, and raises where it must not be.
    """

    def __init__(
        self,
        catalog: SharedCatalog,
        io: FileIO,
        root: str,
        properties: Mapping[str, str],
        folder: Path,
        check: Callable[[Table], None] = lambda _: None,
    ) -> None:
        self._check = check
        self._catalog = catalog
        self._io = io
        self._root = root
        self._properties = properties
        self._folder = folder

    def commit(self, days: Mapping[date, DayToCommit]) -> Committed:
        """Commit days, those that do not stand so already.

        DaysMovedError where one has moved since it was hydrated: then none is committed.
        """
        tables.begin(self._catalog, self._root, self._properties)
        named = {day: published.write(day, of.text, self._folder) for day, of in days.items()}
        names = {day: name for day, (name, _) in named.items()}
        standing = published.names(self._catalog, days)
        new = {day: of for day, of in days.items() if standing.get(day) != names[day]}
        _require(standing, new)
        ready = self._put(new, named)
        for attempt in range(_TRIES if ready else 0):
            try:
                self._catalog.commit_together(self._commits(ready))
            except CommitFailedException:  # other days: what is to be changed is looked up anew
                time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.05 * 2**attempt)))  # noqa: S311
            except CommitStateUnknownException:  # the next look at what stands tells
                time.sleep(_LONGEST_WAIT)
            else:
                break
            standing = published.names(self._catalog, ready)
            if all(standing.get(day) == of.name for day, of in ready.items()):
                break
            _require(standing, new)
        else:
            if ready:
                raise SharedLakeError(
                    f"the commit was begun {_TRIES} times, and each time another worker was "
                    "faster: run the same again"
                )
        return Committed(names, sorted(ready))

    def _put(
        self, days: Mapping[date, DayToCommit], named: Mapping[date, tuple[str, Path]]
    ) -> dict[date, _Ready]:
        """Put the files of days that are new into the warehouse."""
        before = published.read(
            self._catalog, [day for day, of in days.items() if of.based_on is not None]
        )
        _require({day: of.name for day, of in before.items()}, days)
        ready: dict[date, _Ready] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            putting = []
            for day, of in days.items():
                old = before[day].manifest.files if day in before else {}
                name, path = named[day]
                ready[day] = _Ready(name, of.based_on, manifest_from(of.text).files, old)
                place = location_of(self._root, PUBLISHED_DAYS.name, day, name)
                putting.append(pool.submit(storage.put, self._io, path, place))
                for table, entry in ready[day].files.items():
                    again = of.put_all and of.paths[table].is_file()
                    if again or ready[day].changed(table):
                        putting.append(
                            pool.submit(self._put_one, table, day, of.paths[table], entry)
                        )
            for one in putting:
                one.result()
        return ready

    def _put_one(self, table: str, day: date, path: Path, entry: FileEntry) -> None:
        if not path.is_file() or digest(path) != entry.sha256:
            raise SharedLakeError(
                f"{path} is not what its manifest says, so it was not committed: `mka1-usage "
                "verify` says how to fix it"
            )
        # Also where it is there: a file that nothing refers to may be about to be removed as old.
        storage.put(self._io, path, location_of(self._root, table, day, entry.sha256))

    def _commits(self, ready: Mapping[date, _Ready]) -> list[TableCommit]:
        """What becomes of each table: those of data first, then coverage, then what orders all."""
        names = {name for of in ready.values() for name in (*of.files, *of.before)}
        if self._catalog.commits_together:
            names = {name for name in names if any(of.changed(name) for of in ready.values())}
        last = [name for name in (COVERAGE.name,) if name in names]
        order = [*sorted(names.difference(last)), *last, PUBLISHED_DAYS.name]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda name: self._of_table(name, ready), order)
            return [one for one in found if one is not None]

    def _of_table(self, name: str, ready: Mapping[date, _Ready]) -> TableCommit | None:
        table = tables.ensured(self._catalog, self._root, name)
        standing = files_by_day(table, ready)
        if name == PUBLISHED_DAYS.name:
            self._check(table)
            # Another worker may have committed since they were looked at: what counts is the table
            # that is changed, and it is changed only if it still is this one.
            stands = {day: published.name_of(file) for day, file in standing.items()}
            _require(stands, {day: of for day, of in ready.items() if stands.get(day) != of.name})
        wanted: dict[date, DataFile | None] = {}
        for day, of in ready.items():
            key = of.name if name == PUBLISHED_DAYS.name else self._key(of, name)
            if key is None:
                wanted[day] = None
                continue
            location = location_of(self._root, name, day, key)
            if day in standing and standing[day].file_path == location:
                wanted[day] = standing[day]
                continue
            file = self._io.new_input(location)
            with file.open() as source:
                footer = pq.read_metadata(source)
            size = len(file)
            wanted[day] = data_file(table, TABLES[name], day, location, size, footer)
        return change(table, wanted, utc(time.time()))

    @staticmethod
    def _key(of: _Ready, name: str) -> str | None:
        entry = of.files.get(name)
        return entry.sha256 if entry else None
