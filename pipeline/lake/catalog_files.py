"""The files of the catalog: a folder for each that was published, and a link to the last.

    <home>/usage.duckdb                        link to the catalog that was published last
    <home>/lake/.catalogs/000007/usage.duckdb  that catalog
    <home>/lake/.catalogs/000007/sha256        what its bytes were when it was published
    <home>/usage.duckdb.set-aside-<time>/      a catalog that a client has changed

A client that writes to a catalog leaves a write-ahead log beside it. DuckDB since 1.5 follows the
link first, so the log stays in the folder of its catalog, and no log is replayed into another.
Older clients write `usage.duckdb.wal` beside the link; the next build moves it away. One rename of
the link publishes; one rename of a folder sets it aside, with the log.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.lake.manifest import digest
from pipeline.lake.store import Lake, point, private_folder, remove

if sys.platform != "win32":
    import fcntl

_KEPT_SECONDS: Final = 600.0
"""How long a catalog that was replaced is kept for clients that have just looked up the link."""
_DIGEST: Final = "sha256"
_LOGS: Final = (".wal", ".wal.checkpoint", ".wal.recovery")


class CatalogFiles:
    """The catalogs of one lake, of which `path` is the link to the last."""

    def __init__(self, lake: Lake, path: Path) -> None:
        self._path = path.absolute()
        self._root = lake.root / ".catalogs"

    def publish(self, finished: Path) -> None:
        """Let a finished file be the catalog. To be called by one at a time.

        What others left beside or in the place of the link gets a folder first; and once more after
        that, for a client that is still at work.
        """
        private_folder(self._root)
        remove(self._root / ".new")
        replaced = self._replaced()
        self._move_logs(replaced)
        aside = self._root / ".new"
        private_folder(aside)
        finished.replace(aside / self._path.name)
        known = aside / _DIGEST
        known.write_text(digest(aside / self._path.name), encoding="ascii")
        known.chmod(0o600)
        new = self._next()
        aside.rename(new)
        target = new / self._path.name
        if target.is_relative_to(self._path.parent):  # then the home folder can be moved
            target = target.relative_to(self._path.parent)
        point(self._path, target)
        self._move_logs(replaced)

    def set_aside(self) -> Iterator[Path]:
        """Move replaced catalogs that a client has changed beside the link; yields where each is.

        Those that nobody has changed or has open are removed after a while.
        """
        folders = self._folders()
        for folder, successor in zip(folders, [*folders[1:], None], strict=True):
            if folder == self._current():
                continue
            if self._holds_files(folder) and self._change(folder) is not None:
                place = self._free_name()
                (folder / _DIGEST).unlink(missing_ok=True)
                shutil.move(folder, place)
                yield place
            elif (
                successor is None or time.time() - successor.stat().st_mtime > _KEPT_SECONDS
            ) and not _is_written(folder / self._path.name):
                remove(folder)

    def difference(self) -> str | None:
        """How the catalog differs from what was published, in words; None where it does not."""
        logs = [log.name for log in self._logs(self._path) if log.is_file()]
        if logs:
            return f"another program left {logs[0]} beside it, which DuckDB may read as part of it"
        current = self._current()
        if current is not None:
            return self._change(current)
        if self._path.is_symlink():
            return f"it is a link to {self._path.readlink()}, where no run published it"
        if self._path.is_file() and not self._is_known(self._path):
            return "another program has changed it"
        return None

    def _replaced(self) -> Path | None:
        """The folder of the catalog that is to be replaced; one is made for a file without."""
        if self._path.is_symlink() or not self._path.is_file():
            return self._current()
        for folder in self._folders():
            if _is_same(self._path, folder / self._path.name):  # made by a build that was killed
                return folder
        folder = self._next()
        private_folder(folder)
        try:
            os.link(self._path, folder / self._path.name)
        except OSError:  # not every file system has hard links
            shutil.copy2(self._path, folder / self._path.name)
        return folder

    def _move_logs(self, written_for: Path | None) -> None:
        """Move logs from beside the link to a catalog that they were written for.

        Never into the folder that the link leads to: clients would read them there.
        """
        logs = [log for log in self._logs(self._path) if log.is_file()]
        if not logs:
            return
        folder = written_for
        if folder is None or folder == self._current() or self._has_logs(folder):
            folder = self._next()
            private_folder(folder)
            if written_for is not None:
                shutil.copy2(written_for / self._path.name, folder / self._path.name)
        for log in logs:
            with suppress(FileNotFoundError):  # the client that wrote it has ended well
                log.replace(folder / log.name)

    def _has_logs(self, folder: Path) -> bool:
        return any(log.exists() for log in self._logs(folder / self._path.name))

    def _holds_files(self, folder: Path) -> bool:
        return (folder / self._path.name).is_file() or self._has_logs(folder)

    def _change(self, folder: Path) -> str | None:
        """How a catalog in a folder differs from what was published."""
        catalog = folder / self._path.name
        logs = [log.name for log in self._logs(catalog) if log.is_file()]
        if logs:
            return f"another program has changed it, and left {logs[0]}"
        if not catalog.is_file():
            return "it was removed"
        try:
            published = (folder / _DIGEST).read_text(encoding="ascii")
        except OSError:
            known = self._is_known(catalog)
        else:
            known = digest(catalog) == published
        return None if known else "another program has changed it"

    def _is_known(self, catalog: Path) -> bool:
        """Whether a file is a catalog that was published, and that nobody has changed."""
        found = digest(catalog)
        for folder in self._folders():
            with suppress(OSError):
                if (folder / _DIGEST).read_text(encoding="ascii") == found:
                    return True
        return False

    def _logs(self, catalog: Path) -> list[Path]:
        return [catalog.with_name(f"{catalog.name}{suffix}") for suffix in _LOGS]

    def _current(self) -> Path | None:
        """The folder that the link leads to; None where there is none of ours."""
        if not self._path.is_symlink():
            return None
        folder = (self._path.parent / self._path.readlink()).parent
        return self._root / folder.name if _is_same(folder.parent, self._root) else None

    def _folders(self) -> list[Path]:
        """The folder of each catalog, oldest first."""
        return sorted(path for path in self._root.glob("[0-9]*") if path.is_dir())

    def _next(self) -> Path:
        number = max((int(folder.name) for folder in self._folders()), default=0) + 1
        return self._root / f"{number:06}"

    def _free_name(self) -> Path:
        """Where a catalog can be set aside."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        place = self._path.with_name(f"{self._path.name}.set-aside-{stamp}")
        number = 1
        while place.exists():
            number += 1
            place = self._path.with_name(f"{self._path.name}.set-aside-{stamp}-{number}")
        return place


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return False


def _is_written(catalog: Path) -> bool:
    """Whether a DuckDB client has the file open to write to: it holds a lock then."""
    if sys.platform == "win32":  # where nobody can remove a file that is open
        return False
    try:
        with catalog.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
