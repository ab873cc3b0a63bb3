"""The export's folder: replaced file by file, and what others put there is left alone.

    <folder>/export.json               the manifest: the files, and whether all are in place
    <folder>/.mka1-usage-staging/…     unfinished files, none of them called *.parquet or *.csv
    <folder>/.mka1-usage-lock          held by the export that is under way

docs/bi.md ("Again and again") says what a reader sees. The folder itself stays, since it may be
mounted into a container: no link is moved. Removed are files that the manifest names, in the
formats that are written now; those of another format are listed as kept. An export that was killed
leaves a manifest that names the files before and after, so the next one goes on from there.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from filelock import FileLock, Timeout

from pipeline.lake.store import flush_file
from pipeline.paths import unusable

Readers = Literal["owner", "group", "all"]

MANIFEST: Final = "export.json"

_STAGING: Final = ".mka1-usage-staging"
_LOCK: Final = ".mka1-usage-lock"
_VERSION: Final = 1
_NAME: Final = "mka1_usage_export"
_FILE_MODES: Final[Mapping[Readers, int]] = {"owner": 0o600, "group": 0o640, "all": 0o644}
_FOLDER_MODES: Final[Mapping[Readers, int]] = {"owner": 0o700, "group": 0o750, "all": 0o755}
_OURS: Final = re.compile(
    r"[a-z0-9_]+/day=\d{4}-\d\d-\d\d/[a-z0-9_]+\.parquet|[A-Za-z0-9_]+\.(parquet|csv|duckdb|xlsx|md)"
)
"""Names that an export gives its files. A manifest that was tampered with can have no others
removed."""


class FolderError(ValueError):
    """The folder is none to export to. One line, with what to do."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of the folder's files, by how many."""

    written: int
    unchanged: int
    removed: int
    kept: Sequence[str] = ()
    """Files that an export in another format wrote."""


class Folder:
    """A folder that one export has locked. Made by `opened`."""

    def __init__(self, path: Path, readers: Readers) -> None:
        self.path = path
        self.staging = path / _STAGING
        self._readers = readers

    def keeps(self, name: str, source: str) -> bool:
        """Whether a file is what an export made of the same `source`, by that export's facts."""
        manifest = _manifest(self.path)
        known = manifest.get("files", {}).get(name, {})
        try:
            size = (self.path / name).stat().st_size
        except OSError:
            return False
        return manifest.get("source") == source and known.get("bytes") == size

    def replace(self, staged: Mapping[str, Path], facts: Mapping[str, Any]) -> Replaced:
        """Let staged files, by the name that they are to have in the folder, be the export.

        A file that stands in the folder itself stays there. `facts` go into the manifest.
        FolderError, before anything is changed, where no export wrote a file of such a name.
        """
        before = _manifest(self.path)
        known = _files(before)
        if foreign := [name for name in staged if self._is_there(name) and name not in known]:
            raise FolderError(
                f"{self.path / foreign[0]} was not written by an export: move it away, or export "
                "to another folder"
            )
        changed = [name for name in staged if not self._is_same(name, staged[name])]
        formats = {Path(name).suffix for name in staged}
        left = sorted(known.keys() - staged.keys())
        stale = [name for name in left if Path(name).suffix in formats]
        kept = {name: known[name] for name in left if name not in stale and self._is_there(name)}
        after: dict[str, Any] = {
            _NAME: _VERSION,
            "complete": True,
            **facts,
            "files": {name: {"bytes": path.stat().st_size} for name, path in staged.items()},
            "kept": kept,
        }
        if changed or stale or before != after:
            every = sorted(known.keys() | staged.keys())
            both = {name: _files(after).get(name, {}) for name in every}
            self._write_manifest({_NAME: _VERSION, "complete": False, "files": both})
            for name in changed:
                self._place(staged[name], self.path / name)
            for name in stale:
                self._remove(name)
            self._write_manifest(after)
        for name in (*staged, MANIFEST):
            self._let_read(self.path / name)
        return Replaced(len(changed), len(staged) - len(changed), len(stale), tuple(kept))

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(self.path / name)

    def _is_same(self, name: str, staged: Path) -> bool:
        try:
            return filecmp.cmp(self.path / name, staged, shallow=False)
        except OSError:
            return False

    def _place(self, staged: Path, place: Path) -> None:
        flush_file(staged)
        staged.chmod(_FILE_MODES[self._readers])
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(place)

    def _remove(self, name: str) -> None:
        path = self.path / name
        path.unlink(missing_ok=True)
        for folder in list(path.relative_to(self.path).parents)[:-1]:
            with suppress(OSError):  # there is something else in it
                (self.path / folder).rmdir()

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        aside = self.staging / MANIFEST
        aside.write_text(f"{json.dumps(manifest, indent=1)}\n", encoding="utf-8")
        self._place(aside, self.path / MANIFEST)

    def _let_read(self, path: Path) -> None:
        """Let those read a file who are to, and reach it in the folder."""
        if path.stat().st_mode & 0o777 != _FILE_MODES[self._readers]:
            path.chmod(_FILE_MODES[self._readers])
        for folder in [self.path / parent for parent in path.relative_to(self.path).parents]:
            mode, wanted = folder.stat().st_mode & 0o7777, _FOLDER_MODES[self._readers]
            if folder == self.path:  # which may be somebody's, for more than this
                wanted |= mode
            if mode != wanted:
                folder.chmod(wanted)


@contextmanager
def opened(path: Path, readers: Readers = "owner") -> Iterator[Folder]:
    """The folder at `path`, made if need be, for as long as one export takes.

    Raises FolderError where it holds anything but an export, or another one is under way; OSError
    where it can't be written.
    """
    if reason := unusable(path):
        raise FolderError(f"{path} {reason}: name another folder")
    if path.exists() and not path.is_dir():
        raise FolderError(f"{path} is a file: name a folder")
    path.mkdir(mode=_FOLDER_MODES["owner"], parents=True, exist_ok=True)
    there = {entry.name for entry in os.scandir(path)} - {_STAGING, _LOCK}
    if there and not _manifest(path):
        raise FolderError(
            f"{path} holds other things and no export ({sorted(there)[0]}): name an empty folder, "
            "or one that does not exist"
        )
    lock = FileLock(path / _LOCK, mode=_FILE_MODES["owner"], thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderError(
            f"another export is writing to {path}: run again when it is done"
        ) from None
    folder = Folder(path, readers)
    try:
        shutil.rmtree(folder.staging, ignore_errors=True)
        folder.staging.mkdir(mode=_FOLDER_MODES["owner"])
        yield folder
    finally:
        shutil.rmtree(folder.staging, ignore_errors=True)
        lock.release()


def _manifest(path: Path) -> dict[str, Any]:
    """What the manifest says; nothing where there is none, or it is not an export's."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_bytes())
        ours = "files" in manifest and all(map(_OURS.fullmatch, _files(manifest)))
        if manifest[_NAME] == _VERSION and ours:
            return manifest
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}


def _files(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The files that exports wrote, by name, also those of another format than the last."""
    return {**manifest.get("kept", {}), **manifest.get("files", {})}
