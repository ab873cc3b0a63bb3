"""The warehouse as engines see it that read and write its files by themselves, such as Spark.

Belongs here: where a file is, what its footer says, and a folder for results, which nothing refers
to. What counts is decided by commits alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast
from uuid import uuid4

from pyarrow import fs
from pyiceberg.io.pyarrow import PyArrowFileIO

from pipeline.lake.files import covered
from pipeline.shared_lake import storage
from pipeline.shared_lake.locations import location_of
from pipeline.shared_lake.storage import Stored
from pipeline.timeline import DAY, Window

_RESULTS: Final = ".results-"


@dataclass(frozen=True, slots=True)
class Warehouse:
    """`root` is the folder of all tables' files. Methods raise OSError where it fails them."""

    io: PyArrowFileIO
    root: str

    def place(self, dataset: str, day: date, sha256: str) -> str:
        """Where the file of a day with this hash is: a path, or s3://…"""
        return storage.shown(location_of(self.root, dataset, day, sha256))

    def fetch(self, dataset: str, day: date, sha256: str, path: Path) -> None:
        """Copy that file to `path`. SharedLakeError where it is not what its hash says."""
        storage.get(self.io, location_of(self.root, dataset, day, sha256), path, sha256)

    def window(self, dataset: str, day: date, sha256: str) -> Window:
        """The part of its day that the file covers. ContractError where its footer is another's."""
        location = location_of(self.root, dataset, day, sha256)
        with self.io.new_input(location).open() as source:
            return covered(storage.shown(location), cast("BinaryIO", source)).window

    def stored(self, others: Iterable[str] = ()) -> Iterator[Stored]:
        """All files of tables and results, and those below `others`, folders of their own."""
        parent = self.root.rpartition("/")[0]
        files, folder = _file_system(self.io, parent)
        found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        names = (one.base_name for one in found)
        results = (f"{parent}/{name}" for name in names if name.startswith(_RESULTS))
        apart = (one for one in others if not f"{one}/".startswith(f"{self.root}/"))
        for one in dict.fromkeys([self.root, *results, *apart]):
            yield from storage.list_files(self.io, one)

    @contextmanager
    def results(self) -> Iterator[Results]:
        """A place for results, which is not there yet; gone with the block, whatever ends it.

        What a killed process has left for more than a day is removed as well.
        """
        parent = self.root.rpartition("/")[0]
        self._remove_old(parent)
        results = Results(self.io, f"{parent}/{_RESULTS}{uuid4().hex}")
        try:
            yield results
        finally:
            results.remove()

    def _remove_old(self, parent: str) -> None:
        files, folder = _file_system(self.io, parent)
        for one in files.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            left = Results(self.io, f"{parent}/{one.base_name}")
            if one.base_name.startswith(_RESULTS) and left.written_at() < time.time() - DAY:
                left.remove()


@dataclass(frozen=True, slots=True)
class Results:
    """A folder below the warehouse into which an engine writes; nothing refers to it."""

    io: PyArrowFileIO
    location: str

    @property
    def place(self) -> str:
        """Where it is: a path, or s3://…"""
        return storage.shown(self.location)

    def files(self) -> list[PurePosixPath]:
        """What was written, relative to the folder; names that begin with `.` or `_` are marks."""
        found = [path for path, _ in self._there()]
        return sorted(path for path in found if path.name[0] not in "._")

    def written_at(self) -> float:
        """When the last file was written, in Unix seconds; 0 where there is none."""
        return max((at for _, at in self._there()), default=0.0)

    def _there(self) -> Iterator[tuple[PurePosixPath, float]]:
        files, folder = _file_system(self.io, self.location)
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        for one in files.get_file_info(selector):
            if one.is_file:
                yield PurePosixPath(one.path).relative_to(folder), one.mtime.timestamp()

    def fetch(self, path: PurePosixPath, to: Path) -> None:
        """Copy one of these files to `to`."""
        with self.io.new_input(f"{self.location}/{path}").open() as source, to.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)

    def remove(self) -> None:
        """Remove all of it."""
        files, folder = _file_system(self.io, self.location)
        with suppress(FileNotFoundError):
            files.delete_dir(folder)


def _file_system(io: PyArrowFileIO, location: str) -> tuple[fs.FileSystem, str]:
    scheme, host, path = PyArrowFileIO.parse_location(location)
    return cast("fs.FileSystem", io.fs_by_scheme(scheme, host)), path
