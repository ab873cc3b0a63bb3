"""Files of the warehouse: put there, got, listed and removed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, cast
from uuid import uuid4

from pyarrow import fs
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from pipeline.lake.store import flush_folder
from pipeline.shared_lake.errors import SharedLakeError

_LOCAL: Final = "file://"
_CHUNK: Final = 1 << 20
_UNFINISHED: Final = ".unfinished-"
_AT_ONCE: Final = 8


class Stored(NamedTuple):
    """A file that is there: where, how large in bytes, and when it was written, in Unix seconds."""

    location: str
    size: int
    at: float


def shown(location: str) -> str:
    """A location as other programs take it: a path, or s3://…"""
    return location.removeprefix(_LOCAL)


def put(io: FileIO, path: Path, location: str) -> None:
    """Copy a file to the warehouse, where it is seen once it is whole.

    OSError where that fails.
    """
    if location.startswith(_LOCAL):
        place = Path(shown(location))
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f"{_UNFINISHED}{uuid4().hex}")
        try:
            shutil.copyfile(path, aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)
        flush_folder(place.parent)
        return
    with path.open("rb") as source, io.new_output(location).create(overwrite=True) as sink:
        shutil.copyfileobj(source, sink, _CHUNK)


def get(io: FileIO, location: str, path: Path, sha256: str) -> None:
    """Copy a file of the warehouse to `path`, for its owner alone.

    SharedLakeError where it is not there, or not what its manifest says.
    """
    found = hashlib.sha256()
    try:
        with io.new_input(location).open() as source, path.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                found.update(chunk)
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    except FileNotFoundError:
        raise SharedLakeError(
            f"{shown(location)} is not there, though its manifest names it: `mka1-usage verify` "
            "says what is wrong, and loading its day again puts that right"
        ) from None
    path.chmod(0o600)
    if found.hexdigest() != sha256:
        raise SharedLakeError(
            f"{shown(location)} is not what its manifest says: `mka1-usage verify` says what is "
            "wrong, and loading its day again puts that right"
        )


def digest(io: FileIO, location: str) -> tuple[int, str]:
    """How many bytes a file has, and their SHA-256. FileNotFoundError where there is none."""
    found, size = hashlib.sha256(), 0
    with io.new_input(location).open() as source:
        while chunk := source.read(_CHUNK):
            found.update(chunk)
            size += len(chunk)
    return size, found.hexdigest()


def list_files(io: FileIO, folder: str) -> Iterator[Stored]:
    """All files below a folder of the warehouse."""
    scheme, host, path = PyArrowFileIO.parse_location(folder)
    files = cast("PyArrowFileIO", io).fs_by_scheme(scheme, host)
    prefix = folder.removesuffix(path)
    for one in files.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True)):
        if one.is_file:
            yield Stored(f"{prefix}{one.path}", one.size, one.mtime.timestamp())


def copies(io: FileIO, files: Iterable[Stored], folder: Path) -> Iterator[tuple[str, Path]]:
    """Each file, as other programs name it, and a copy in `folder`, until the next is asked for.

    Those that are removed meanwhile are left out. OSError where that fails.
    """

    def copy(place: int, one: Stored) -> Path | None:
        path = folder / f"copy-{place}"
        try:
            with io.new_input(one.location).open() as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink, _CHUNK)
        except FileNotFoundError:
            return None
        return path

    rest = iter(files)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while some := list(islice(rest, _AT_ONCE)):
            for one, path in zip(some, pool.map(copy, range(_AT_ONCE), some), strict=True):
                if path is not None:
                    yield shown(one.location), path
                    path.unlink()


def remove_file(io: FileIO, location: str) -> None:
    """Remove a file, if it is still there."""
    with suppress(FileNotFoundError):
        io.delete(location)
