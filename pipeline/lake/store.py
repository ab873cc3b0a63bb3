"""The lake on disk: where everything stands, what is loaded, and who may write it now.

<home>/lake/days/YYYY-MM-DD               link to the current version of the day
<home>/lake/<dataset>/day=YYYY-MM-DD/<dataset>.parquet      link to its file, through `days/`
<home>/lake/.versions/YYYY-MM-DD/000007/  a version: all files of the day, never changed again
<home>/lake/.partial/…    pages of days that are not read to their end: resumed by the next run
<home>/lake/.staging/…    unfinished work of running processes, and what outgrows their memory
<home>/lake/.locks/…      empty files, held by those who write
<home>/lake/.changing.json   days that a commit is about to change, until it has ended
<home>/lake/.commit.json  days that are replaced together, until each has its link
<home>/lake/.shared.json  what the home knows of a shared lake: see pipeline/shared_lake/base.py
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Final
from uuid import uuid4

from filelock import FileLock, Timeout

from pipeline.lake.files import Loaded, covered
from pipeline.timeline import DAY, day_window

KEPT_SECONDS: Final = float(DAY)
"""How long a version that was replaced can still be read by those who had opened it."""

MANIFEST: Final = "record.json"
"""The file of a version that says what its other files are: written last, so with it all are there.
"""

_OWNER_ONLY: Final = 0o700
_SPILLED: Final = "spilled-"
"""Prefix of the names of folders for what outgrows memory, and of their locks, which are not in
them: DuckDB makes such a folder when it needs it, and removes it."""
_REMOVED: Final = ".removed-"
"""Prefix of the names of folders that are being removed."""
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_CANNOT_FLUSH: Final = frozenset(
    {
        *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ENOTTY),
        *(errno.EISDIR, errno.EACCES, errno.EPERM),
    }
)
"""What file systems answer that don't flush folders. A full or broken disk answers otherwise."""


class Lake:
    """The Parquet files under one folder.

    `lookback_days`: how long after a day the API may still restate it; what was read sooner is
    provisional. `memory`: bytes that all queries of the process may use together, by default what
    `pipeline.memory` says.
    """

    def __init__(self, root: Path, lookback_days: int = 3, memory: int | None = None) -> None:
        self.root = root.absolute()
        self.lookback_days = lookback_days
        self.memory = memory

    def final_from(self, day: date) -> int:
        """When the API's time to restate a day is over, Unix seconds."""
        return day_window(day).end + self.lookback_days * DAY

    def path(self, dataset: str, day: date) -> Path:
        """Where others find the dataset's file of a day, or will."""
        return self.root / dataset / f"day={day.isoformat()}" / f"{dataset}.parquet"

    def link(self, day: date) -> Path:
        """The link to the version of the day that counts."""
        return self.root / "days" / day.isoformat()

    def versions(self, day: date) -> Path:
        """The folder of all versions of a day."""
        return self.root / ".versions" / day.isoformat()

    @property
    def commit(self) -> Path:
        """The file that replaces several days at once."""
        return self.root / ".commit.json"

    def committed(self) -> Mapping[date, str]:
        """The days of a commit that may not have their links yet, with their versions' names."""
        return {day: str(name) for day, name in _by_day(self.commit).items()}

    @property
    def changing(self) -> Path:
        """The file that names the days of a commit from before its first change to its end."""
        return self.root / ".changing.json"

    def days_changing(self) -> Mapping[date, bool]:
        """The days of a commit that has begun and not ended, and whether they had a version then.

        Where its process was killed, the next commit undoes what it had not committed.
        """
        return {day: bool(had_one) for day, had_one in _by_day(self.changing).items()}

    def version(self, day: date) -> Path | None:
        """The folder of the version that counts now, which never changes; None if there is none."""
        return self._version(day, self.committed())

    def versions_at_once(self, days: Iterable[date] | None = None) -> dict[date, Path]:
        """The versions that count at one moment, of all days or of `days`, in order.

        Each link is read at a moment of its own, and several days may be replaced at once. So they
        are read until twice in a row the same was found: a version that was replaced never counts
        again, so between the two all of it counted.
        """
        asked = None if days is None else sorted(set(days))
        before: dict[date, Path] | None = None
        while before != (found := self._read_versions(asked)):
            before = found
        return found

    def _read_versions(self, days: Iterable[date] | None) -> dict[date, Path]:
        committed = self.committed()
        wanted = self.all_days() if days is None else days
        found = ((day, self._version(day, committed)) for day in wanted)
        return {day: version for day, version in found if version is not None}

    def _version(self, day: date, committed: Mapping[date, str]) -> Path | None:
        if day in committed:
            return self.versions(day) / committed[day]
        link = self.link(day)
        if link.is_symlink():
            return self.versions(day) / link.readlink().name
        return link if link.is_dir() else None  # a lake that was copied without its links

    def all_days(self) -> list[date]:
        """The days of which anything is there, in order."""
        days = set(self.committed())
        with suppress(FileNotFoundError):
            names = [entry.name for entry in os.scandir(self.root / "days")]
            days |= {date.fromisoformat(name) for name in names if not name.startswith(".")}
        return sorted(days)

    def days(self, dataset: str) -> list[date]:
        """The days that are loaded, in order."""
        return [day for day in self.all_days() if self.file(dataset, day) is not None]

    def file(self, dataset: str, day: date) -> Path | None:
        """The dataset's file in the version of the day that counts now; None if there is none."""
        version = self.version(day)
        path = None if version is None else version / f"{dataset}.parquet"
        return path if path is not None and path.is_file() else None

    def files(self, dataset: str, days: Iterable[date] | None = None) -> list[Path]:
        """The files of the days that are loaded among `days` (all by default), in order."""
        wanted = self.all_days() if days is None else sorted(set(days))
        found = (self.file(dataset, day) for day in wanted)
        return [path for path in found if path is not None]

    def loaded(self, dataset: str, day: date) -> Loaded | None:
        """What the day's file covers; None where it is not loaded."""
        path = self.file(dataset, day)
        return None if path is None else covered(path)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of one's own for unfinished files, beside the lake's; gone at the end."""
        parent = self._private(".staging")
        # Until it is locked, a new folder could be taken for one that a killed process left.
        with self.lock("staging"):
            _sweep(self, parent)
            folder = Path(tempfile.mkdtemp(dir=parent))
            mine = _lock_of(folder)
            mine.acquire()
        try:
            yield folder
        finally:
            mine.release()
            remove(folder)

    def lock(self, name: str) -> FileLock:
        """To be held (`with`) by one at a time, of all threads and processes on this machine.

        Whoever dies lets go of it. It may be released by another thread than took it.
        """
        return FileLock(self._private(".locks") / f"{name}.lock", thread_local=False)

    @contextmanager
    def reading(self, name: str) -> Iterator[bool]:
        """Hold a lock to look at what it guards, or go without where this process can't write.

        Yields whether it is held: without it, what is looked at may change meanwhile.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self.lock(name))
                held = True
            except OSError as error:
                if error.errno not in _READ_ONLY:
                    raise
                held = False
            yield held

    def day_lock(self, day: date) -> FileLock:
        """Held from a day's first page to its publication. Days are locked in their order, so that
        two runs never wait for each other."""
        return self.lock(f"day-{day.isoformat()}")

    def partial(self, day: date, endpoint: str = "") -> Path:
        """Where the pages of a day that is being read are kept; the caller holds its lock.

        Those of another usage endpoint than that of conversations are in a folder of its name.
        """
        folder = self._private(".partial") / endpoint
        private_folder(folder)
        return folder / day.isoformat()

    def clear_up(self) -> None:
        """Remove what killed processes and replaced versions left behind.

        To be called once the catalog shows the versions that count: then nobody comes to need one
        that was replaced KEPT_SECONDS ago.
        """
        with self.lock("staging"):
            _sweep(self, self._private(".staging"))
        for folder in self.root.glob(f"*/{_REMOVED}*"):  # left by a process that was killed
            shutil.rmtree(folder, ignore_errors=True)
        partial = self.root / ".partial"
        for folder in (*partial.glob("????-??-??"), *partial.glob("[!.0-9]*/????-??-??")):
            # Another run may publish the day, and remove the folder, at any moment.
            with suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime <= KEPT_SECONDS:
                    continue
                with suppress(Timeout), self.day_lock(date.fromisoformat(folder.name)).acquire(0):
                    remove(folder)
        for folder in (self.root / ".versions").glob("????-??-??"):
            with self.lock("publish"):
                self.expire(date.fromisoformat(folder.name))

    def expire(self, day: date, *, at_once: bool = False) -> None:
        """Remove the versions of a day that were replaced long ago, and those that never counted.

        `at_once`: also those that were replaced just now, whoever reads them.

        Where the day's link is gone, what is whole is kept. To be called with the lock `publish`.
        """
        counts = self.version(day)
        versions = sorted(self.versions(day).iterdir())
        for version, successor in zip(versions, [*versions, None][1:], strict=True):
            whole = counts is None and (version / MANIFEST).is_file()
            if version.name.startswith(".") or not (whole or (counts and version <= counts)):
                remove(version)
            elif counts and version < counts and successor is not None:
                replaced_at = successor.stat().st_mtime
                if at_once or time.time() - replaced_at > KEPT_SECONDS:
                    remove(version)

    def _private(self, name: str) -> Path:
        folder = self.root / name
        private_folder(folder)
        return folder


@contextmanager
def spilling(lake: Lake) -> Iterator[Path]:
    """The path of a folder of one's own for what outgrows memory; gone at the end.

    Who needs it makes it: reading leaves no trace. OSError where the lake can't be written to.
    """
    folder = lake.root / ".staging" / f"{_SPILLED}{uuid4().hex}"
    private_folder(folder.parent)
    with lake.lock("staging"):
        mine = lake.lock(folder.name)
        mine.acquire()
    process = os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == process:  # one that was forked has a copy of this, and no folder
            remove(folder)
            Path(mine.lock_file).unlink(missing_ok=True)
            mine.release()


def private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for the owner's eyes only."""
    if folder.is_dir():
        return
    private_folder(folder.parent)
    folder.mkdir(mode=_OWNER_ONLY, exist_ok=True)


def writable_folder(folder: Path) -> None:
    """Make a folder as `private_folder` does; OSError where it can't be written to."""
    private_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file to, for its owner alone: at the end it takes its place.

    Flushed and renamed, so a reader finds the old file or the new one, whole; where anything
    fails, the old one. OSError where the disk fails.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        flush_file(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def flush_file(path: Path) -> None:
    """Make a file's content survive a loss of power."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def point(place: Path, target: Path) -> None:
    """Make a link, in the place of the file or link that is there, at one stroke."""
    aside = place.with_name(f".{place.name}.new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.replace(place)


def flush_folder(folder: Path) -> bool:
    """Make the names in a folder survive a loss of power; returns whether its file system can.

    CIFS, some FUSE and shared folders can't. What was published there is whole all the same, but a
    loss of power may take back what was published last. OSError where the disk fails.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
        return False
    return True


def remove(folder: Path) -> None:
    """Remove a folder, also when a thread of a load that failed is still writing into it.

    Renamed first: what comes late finds no folder, and can't keep this one from being removed.
    """
    with suppress(OSError):
        folder = folder.rename(folder.with_name(f"{_REMOVED}{folder.name}"))
    shutil.rmtree(folder, ignore_errors=True)


def _by_day(path: Path) -> dict[date, object]:
    """What a file of the lake says of days; nothing where it is not there, or is none of ours."""
    try:  # ours is renamed when it is whole
        return {
            date.fromisoformat(day): said for day, said in json.loads(path.read_bytes()).items()
        }
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / ".lock", thread_local=False)


def _sweep(lake: Lake, parent: Path) -> None:
    """Remove what processes that were killed left behind: nobody holds their folders' locks."""
    for folder in parent.iterdir():
        if not folder.name.startswith(_SPILLED) and _is_free(_lock_of(folder)):
            remove(folder)
    for path in (lake.root / ".locks").glob(f"{_SPILLED}*.lock"):
        if _is_free(FileLock(path, thread_local=False)):
            remove(parent / path.stem)
            path.unlink(missing_ok=True)


def _is_free(lock: FileLock) -> bool:
    """Whether nobody holds a lock that is there."""
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # somebody's, or gone in the meantime
        return False
    lock.release()
    return True
