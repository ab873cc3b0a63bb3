"""Days of the shared lake become versions of a home's own lake, byte for byte."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from typing import Final

from pyiceberg.io import FileIO

from pipeline.lake.commit import adopt
from pipeline.lake.manifest import digest, manifest_of
from pipeline.lake.store import MANIFEST, Lake, flush_file
from pipeline.shared_lake import published, storage
from pipeline.shared_lake.base import DayBase, note_days, read_base
from pipeline.shared_lake.catalogs import SharedCatalog
from pipeline.shared_lake.errors import SharedLakeError
from pipeline.shared_lake.locations import location_of
from pipeline.shared_lake.published import Standing

_AT_ONCE: Final = 8
_DAYS_AT_ONCE: Final = 32
"""Days that become versions at one stroke: what is got of them waits in the staging folder."""


def hydrate(
    catalog: SharedCatalog,
    io: FileIO,
    root: str,
    shown: str,
    lake: Lake,
    days: Iterable[date] | None,
    *,
    damaged: bool = False,
) -> list[date]:
    """What stands of `days` (None: all) becomes their local version; returns which changed.

    A day that still stands as it was hydrated keeps what has become of it here since. One that has
    moved, or was never hydrated, is replaced: what was not committed of it is to be done again.
    With `damaged`, files that are not what their manifests say are missing here.
    """
    known = read_base(lake)
    before = known.days if known is not None and known.catalog == shown else {}
    names = published.names(catalog, days)
    moved = [
        day
        for day, name in names.items()
        if day not in before or before[day].published != name or lake.version(day) is None
    ]
    for first in range(0, len(moved), _DAYS_AT_ONCE):
        of = published.read(catalog, moved[first : first + _DAYS_AT_ONCE])
        _adopt(io, root, shown, lake, of, damaged=damaged)
    return moved


def _adopt(
    io: FileIO,
    root: str,
    shown: str,
    lake: Lake,
    standing: Mapping[date, Standing],
    *,
    damaged: bool,
) -> None:
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
        folder = stack.enter_context(lake.staging())
        folders = {day: folder / day.isoformat() for day in standing}
        copying: dict[Path, Future[None]] = {}
        for day, of in standing.items():
            folders[day].mkdir(mode=0o700)
            here = _files_here(lake, day)
            for name, entry in of.manifest.files.items():
                target = folders[day] / f"{name}.parquet"
                if entry.sha256 in here:
                    _same_file(here[entry.sha256], target)
                else:
                    there = location_of(root, name, day, entry.sha256)
                    copying[target] = pool.submit(storage.get, io, there, target, entry.sha256)
            path = folders[day] / MANIFEST
            path.write_text(of.text, encoding="utf-8")
            path.chmod(0o600)
            flush_file(path)
        for target, copied in copying.items():
            try:
                copied.result()
            except SharedLakeError:
                if not damaged:
                    raise
                target.unlink(missing_ok=True)
        versions = adopt(lake, folders)
    note_days(
        lake,
        shown,
        {day: DayBase(of.name, versions[day].name) for day, of in standing.items()},
    )


def _files_here(lake: Lake, day: date) -> dict[str, Path]:
    """The files of a day's local version by their hash, those that are still what they were."""
    version = lake.version(day)
    found: dict[str, Path] = {}
    for name, entry in manifest_of(version).files.items():
        path = (version or lake.root) / f"{name}.parquet"
        with suppress(OSError):
            if path.stat().st_size == entry.bytes and digest(path) == entry.sha256:
                found[entry.sha256] = path
    return found


def _same_file(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:  # not every file system has hard links
        shutil.copy2(path, other)
