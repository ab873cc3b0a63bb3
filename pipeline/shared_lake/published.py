"""What stands of each day in the shared lake: its manifest, which orders all commits.

A day stands by one row of `published_days`, in a file of its own that is named by its hash. That
name is the day's version: whoever commits replaces it, if it still is the one that was hydrated.
"""

from __future__ import annotations

import io as memory
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile

from pipeline.lake import files
from pipeline.lake.manifest import Manifest, digest, manifest_from
from pipeline.shared_lake import tables
from pipeline.shared_lake.catalogs import SharedCatalog
from pipeline.shared_lake.errors import SharedLakeError
from pipeline.shared_lake.table_change import files_by_day
from pipeline.shared_lake.tables import PUBLISHED_DAYS
from pipeline.timeline import day_window

_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Standing:
    """A day as it stands: the name of its version, and its manifest, word by word."""

    name: str
    text: str

    @property
    def manifest(self) -> Manifest:
        """What the manifest says. SharedLakeError where it is none."""
        try:
            return manifest_from(self.text)
        except ValueError as error:
            raise SharedLakeError(f"{PUBLISHED_DAYS.name}: {error}") from None


def names(catalog: SharedCatalog, days: Iterable[date] | None = None) -> dict[date, str]:
    """The names of what stands of days (all by default), in order."""
    table = tables.load(catalog, PUBLISHED_DAYS.name)
    found = {} if table is None else files_by_day(table, days)
    return {day: name_of(file) for day, file in found.items()}


def read(catalog: SharedCatalog, days: Iterable[date] | None = None) -> dict[date, Standing]:
    """What stands of days (all by default), in order."""
    table = tables.load(catalog, PUBLISHED_DAYS.name)
    if table is None:
        return {}
    found = files_by_day(table, days)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        texts = pool.map(lambda file: _text(table.io, file.file_path), found.values())
        return {
            day: Standing(name_of(file), text)
            for (day, file), text in zip(found.items(), texts, strict=True)
        }


def write(day: date, text: str, folder: Path) -> tuple[str, Path]:
    """A file with the manifest of a day; returns the name that it gives the day, and the file."""
    window = day_window(day)
    bounds = [datetime.fromtimestamp(at, UTC) for at in (window.start, window.end)]
    row = dict(zip(PUBLISHED_DAYS.schema.names, (*bounds, text), strict=True))
    table = pa.Table.from_pylist([row], schema=PUBLISHED_DAYS.schema)
    path = Path(tempfile.mkdtemp(dir=folder)) / f"{PUBLISHED_DAYS.name}.parquet"
    files.write(PUBLISHED_DAYS, table.to_batches(), path, window)
    return digest(path), path


def _text(io: FileIO, location: str) -> str:
    with io.new_input(location).open() as source:
        content = source.read()
    return str(pq.read_table(memory.BytesIO(content)).column("manifest")[0].as_py())


def name_of(file: DataFile) -> str:
    """The name of the version of a day that a file of `published_days` has."""
    return PurePosixPath(file.file_path).stem
