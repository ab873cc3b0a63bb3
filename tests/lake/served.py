"""Served pages in plain Python, and what they come to when counted without the pipeline.

Belongs here: what several tests of the lake need to make pages, to publish them, to read files back
and to know the truth.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake import commit, engine, files, manifest
from pipeline.lake.schemas import DATASETS, LEDGER_DATASETS, MEASURES, RAW_USAGE
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, Width, Window, day_window
from pipeline.usage.page_buffer import SERVED_ROWS, Chunk, PageBuffer
from pipeline.usage.rollup import DayPublished, publish_staged, stage_day

DAY = date(2024, 2, 29)
WINDOW = day_window(DAY)
MIDNIGHT = WINDOW.start
IDS = ("user_id", "api_key_id")
DATASET_OF: dict[Width, str] = {"1m": "usage_1m", "1h": "usage_1h", "1d": "usage_1d"}

Counts = tuple[int | None, int | None, int | None]
Row = dict[str, object]


@dataclass(frozen=True)
class Result:
    """One result row as served."""

    user_id: str | None = "ada"
    api_key_id: str | None = "key"
    counts: Counts = (1, 2, 3)
    extra: str | None = None


@dataclass(frozen=True)
class Bucket:
    """One serving of a minute's bucket: the minute of the day, and what it holds."""

    minute: int
    results: tuple[Result, ...] = ()
    day: date = DAY

    @property
    def start(self) -> int:
        """Unix seconds."""
        return day_window(self.day).start + 60 * self.minute


Page = Sequence[Bucket]


def served_rows(page: Page, first_serving: int, fetched_at: int) -> pa.Table:
    """A page's rows as SERVED_ROWS."""
    rows = [
        {
            "start_time": bucket.start * 1_000_000,
            "end_time": (bucket.start + 60) * 1_000_000,
            "user_id": result.user_id,
            "api_key_id": result.api_key_id,
            **dict(zip(MEASURES, result.counts, strict=True)),
            "extra": result.extra,
            "fetched_at": fetched_at * 1_000_000,
            "serving": serving,
        }
        for serving, bucket in enumerate(page, first_serving)
        for result in bucket.results
    ]
    return pa.Table.from_pylist(rows, schema=SERVED_ROWS)


def spool(
    folder: Path, pages: Iterable[Page], fetched_at: int = MIDNIGHT, window: Window = WINDOW
) -> PageBuffer:
    """The pages, taken in one after the other by a single walk over the window."""
    taken = PageBuffer(folder / "spool", "an account", window, fetched_at)
    with Chunk(taken, window) as part:
        for page in pages:
            rows = served_rows(page, part.servings, fetched_at)
            part.add([bucket.start for bucket in page], rows)
        part.finish()
    return taken


def publish(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    pages: Iterable[Page],
    *,
    day: date = DAY,
    window: Window | None = None,
    fetched_at: int = MIDNIGHT,
) -> DayPublished:
    """Publish a day as a load does: spooled in a staging folder of its own."""
    with lake.staging() as folder:
        taken = spool(folder, pages, fetched_at, window or day_window(day))
        staged = stage_day(con, day, taken.window, taken, folder)
        return publish_staged(con, lake, staged, folder)


def counted(pages: Iterable[Page], width: Width) -> list[Row]:
    """The truth: the rows of a usage table, by looking at every row as served."""
    latest: dict[int, tuple[Result, ...]] = {}
    for page in pages:
        for bucket in page:
            latest[bucket.start] = bucket.results
    groups: dict[tuple[int, str | None, str | None], list[int | None]] = {}
    for start, results in latest.items():
        for result in results:
            edge = start - start % SECONDS[width]
            group = groups.setdefault((edge, result.user_id, result.api_key_id), [None] * 3)
            for place, count in enumerate(result.counts):
                if count is not None:
                    group[place] = (group[place] or 0) + count
    return [
        {
            "start_time": start,
            "end_time": start + SECONDS[width],
            "user_id": user,
            "api_key_id": key,
            **dict(zip(MEASURES, groups[start, user, key], strict=True)),
        }
        for start, user, key in sorted(
            groups, key=lambda group: (group[0], _null_first(group[1]), _null_first(group[2]))
        )
    ]


def _null_first(text: str | None) -> tuple[bool, bytes]:
    return text is not None, (text or "").encode()


def rows_of(path: Path) -> list[Row]:
    """A file's rows in order, times as Unix seconds."""
    table = pq.ParquetFile(path).read()
    return [
        {
            name: int(value.timestamp()) if hasattr(value, "timestamp") else value
            for name, value in row.items()
        }
        for row in table.to_pylist()
    ]


def usage_rows(lake: Lake, width: Width, day: date = DAY) -> list[Row]:
    """The published rows of a usage table."""
    return rows_of(lake.path(DATASET_OF[width], day))


def stand(lake: Lake) -> dict[str, tuple[int, str]]:
    """Every file of the lake that readers see: its inode, and a digest of its bytes.

    Not of coverage and revisions, which tell when the API was asked, and what it had said before.
    """
    return {
        str(path.relative_to(lake.root)): (
            path.stat().st_ino,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(lake.root.glob("*/day=*/*"))
        if path.stem not in LEDGER_DATASETS
    }


def digests(lake: Lake) -> dict[str, str]:
    """As `stand`, without the inodes: equal for equal bytes in different lakes."""
    return {name: digest for name, (_, digest) in stand(lake).items()}


def leftovers(lake: Lake) -> list[Path]:
    """Folders of unfinished work."""
    staging = lake.root / ".staging"
    return [path for path in staging.iterdir() if path.is_dir()] if staging.exists() else []


def write_rows(
    dataset: str, path: Path, rows: Sequence[Mapping[str, object]], window: Window = WINDOW
) -> Path:
    """A file of the contract with these rows; columns that a row does not name are NULL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = DATASETS[dataset].schema
    moments = {"start_time", "end_time", "fetched_at"}
    table = pa.Table.from_pylist(
        [
            {
                name: value * 1_000_000 if name in moments and isinstance(value, int) else value
                for name, value in row.items()
            }
            for row in rows
        ],
        schema=schema,
    )
    files.write(DATASETS[dataset], table.to_reader(), path, window)
    return path


def plant(
    lake: Lake,
    dataset: str,
    rows: Sequence[Mapping[str, object]],
    day: date = DAY,
    window: Window | None = None,
    read_at: float | None = None,
) -> Path:
    """Publish a file as the day's, past every check of what is in it; returns where it stands."""
    plant_all(lake, {dataset: rows}, day, window, read_at)
    return lake.path(dataset, day)


def plant_all(
    lake: Lake,
    tables: Mapping[str, Sequence[Mapping[str, object]]],
    day: date = DAY,
    window: Window | None = None,
    read_at: float | None = None,
) -> None:
    """Publish a file of each of the tables as the day's, past every check of what is in it."""
    with lake.staging() as folder, closing(engine.connect()) as con:
        written = {
            name: write_rows(name, folder / f"{name}.parquet", rows, window or day_window(day))
            for name, rows in tables.items()
        }
        asked: dict[manifest.Source, float] = {} if read_at is None else {"usage": read_at}
        commit.publish(con, lake, day, written, asked)


def copy_day(source: Lake, target: Lake, day: date) -> None:
    """Give a lake the day as another one has it."""
    target.root.mkdir(parents=True, exist_ok=True)
    mode = source.root / ".identity.json"
    if mode.exists():
        shutil.copy(mode, target.root)
    for path in source.root.glob(f"*/*{day}"):
        copied = target.root / path.relative_to(source.root)
        if path.is_symlink():
            copied.parent.mkdir(exist_ok=True)
            copied.symlink_to(path.readlink())
        else:
            shutil.copytree(path, copied, symlinks=True)


def raw_row(columns: Mapping[str, object] | None = None) -> Row:
    """A row of raw_usage."""
    row: Row = dict.fromkeys(RAW_USAGE.schema.names)
    row |= {"start_time": MIDNIGHT, "end_time": MIDNIGHT + 60, "fetched_at": MIDNIGHT}
    return row | dict.fromkeys(MEASURES, 1) | dict(columns or {})


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for one example of a property: fixtures last for all of them."""
    return tempfile.TemporaryDirectory(prefix="lake-")
