"""Publication: a day becomes a new version of itself, in all its tables at once or not at all.

Belongs here: what goes into a version (the files, coverage, revisions, a record of each file) and
the one rename that makes it count. Does not belong here: what the files hold (`sql/`), paths and
locks (`pipeline.lake.store`), reading the record (`pipeline.lake.verification`).

A version is a folder that never changes again. Files that say nothing new are the same file in
both versions (a hard link). Whatever happens before the rename leaves the day as it was; whatever
happens after it leaves the day as it is to be.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake import engine, files
from pipeline.lake.files import SCHEMA_VERSION, ContractError, check_contract, covered
from pipeline.lake.schemas import (
    COVERAGE,
    DATASETS,
    LEDGER_DATASETS,
    OBSERVED,
    REVISIONS,
    USAGE,
    USAGE_DATASETS,
    Dataset,
)
from pipeline.lake.store import Lake, private_folder, remove
from pipeline.timeline import SECONDS, day_range, day_window

Source = Literal["usage", "conversations"]
"""What is read from the API in one go: the usage endpoint, or the listings."""

RECORD: Final = "record.json"
"""The file of a version that says what its other files are."""

_MOMENT: Final = {"conversations": "created_at", "responses": "created_at", "items": "added_at"}
_UNCOVERED: Final = {"item_contents", "reconciliation", *LEDGER_DATASETS}
"""Tables whose rows have no hour."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What one file was when it was published. `sums` are those of its 64-bit integers."""

    rows: int
    bytes: int
    sha256: str
    schema: str
    sums: dict[str, int]


@dataclass(frozen=True, slots=True)
class Record:
    """What a version holds, and when the API was asked for it (Unix seconds)."""

    files: dict[str, FileRecord] = field(default_factory=dict[str, FileRecord])
    read_at: dict[Source, float] = field(default_factory=dict[Source, float])


def publish(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    day: date,
    staged: Mapping[str, Path],
    read_at: Mapping[Source, float] | None = None,
) -> list[str]:
    """Publish finished files as the day's; returns the datasets among `staged` that changed.

    `read_at` says when what is published was asked for, also where it turned out to be what stands
    there. Every file is checked against the contract and flushed to disk before the day changes.
    Raises ContractError, or OSError when the disk fails, and leaves the day as it was.
    """
    for name, path in staged.items():
        check_contract(DATASETS[name], path)
    with lake.lock("publish"):
        standing = lake.version(day) or _adopted(lake, day)
        before = _record_or_none(standing)
        changed = [
            name
            for name in staged
            if (old := _intact(standing, before, name)) is None
            or not files.same(DATASETS[name], old, staged[name])
        ]
        asked = dict(before.read_at)
        for source, at in (read_at or {}).items():
            asked[source] = max(at, asked.get(source, at))
        if changed or not before.files or asked != before.read_at:
            new = _new_version(lake, day)
            try:
                to_move = {name: staged[name] for name in changed}
                _fill(con, lake, day, standing, before, to_move, asked, new)
            except BaseException:
                remove(new)
                raise
            _make_it_count(lake, day, new)
        _link(lake, day)
    return changed


def confirm(
    con: duckdb.DuckDBPyConnection, lake: Lake, day: date, version: Path, source: Source, at: float
) -> bool:
    """Note that a day that was read early is still the same after the API's time to restate it.

    `at` is when that was seen (Unix seconds), of the version that counted then. Returns whether
    there was anything to note.
    """
    final_from = day_window(day).end + lake.lookback_days * SECONDS["1d"]
    read_at = _record_or_none(version).read_at.get(source, 0.0)
    if read_at >= final_from or at < final_from or lake.version(day) != version:
        return False
    publish(con, lake, day, {}, {source: at})
    return True


def cover_gaps(con: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Say of each day between the first and the last that it is missing, where nothing is there.

    Days that were published before there were versions become versions of themselves.
    """
    folders = (path.name for name in DATASETS for path in (lake.root / name).glob("day=*"))
    there = {*lake.all_days(), *(date.fromisoformat(name[len("day=") :]) for name in folders)}
    for day in day_range(min(there), max(there)) if there else ():
        if lake.version(day) is None:
            publish(con, lake, day, {})


def read_record(version: Path) -> Record:
    """What was recorded of a version; OSError or ValueError where that can't be read."""
    try:
        facts = json.loads((version / RECORD).read_text(encoding="utf-8"))
        if facts.pop("seal") != _seal(facts):
            raise ValueError("its seal is broken")
        return Record(
            {name: FileRecord(**of) for name, of in facts["files"].items()}, facts["read_at"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{version / RECORD} is no record of a version: {error}") from None


def _record_or_none(version: Path | None) -> Record:
    """What was recorded of a version: nothing where it can't be read, which is to be replaced."""
    with suppress(OSError, ValueError):
        return Record() if version is None else read_record(version)
    return Record()


def target(dataset: str, day: date) -> Path:
    """What the link to a dataset's file says: it goes through the version that counts."""
    return Path("..", "..", "days", day.isoformat(), f"{dataset}.parquet")


def _link(lake: Lake, day: date) -> None:
    """See to it that each file of the day is found under its table's folder, and no other."""
    version = lake.version(day)
    for name in DATASETS:
        place = lake.path(name, day)
        if version is None or not (version / place.name).is_file():
            with suppress(FileNotFoundError):
                place.unlink()
        elif not (place.is_symlink() and place.readlink() == target(name, day)):
            private_folder(place.parent)
            _point(place, target(name, day))


def _adopted(lake: Lake, day: date) -> Path | None:
    """A version made of the files of a day that was published before there were versions."""
    places = {name: lake.path(name, day) for name in DATASETS}
    found = {name: path for name, path in places.items() if _is_regular(path)}
    if not found:
        return None
    version = _new_version(lake, day)
    for name, path in found.items():
        _same_file(path, version / f"{name}.parquet")
    _make_it_count(lake, day, version)
    return version


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _new_version(lake: Lake, day: date) -> Path:
    """An empty folder for the next version of a day."""
    versions = lake.versions(day)
    private_folder(versions)
    lake.expire(day)
    number = max((int(version.name) for version in versions.iterdir()), default=0) + 1
    new = versions / f"{number:06}"
    private_folder(new)
    return new


def _fill(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    day: date,
    standing: Path | None,
    before: Record,
    changed: Mapping[str, Path],
    asked: Mapping[Source, float],
    new: Path,
) -> None:
    """Put everything that belongs to a version into its folder, and flush it."""
    records: dict[str, FileRecord] = {}
    for name, path in changed.items():
        path.rename(new / f"{name}.parquet")
    for name in DATASETS:
        old = None if standing is None else standing / f"{name}.parquet"
        if old is not None and old.is_file() and name not in {*changed, *LEDGER_DATASETS}:
            _same_file(old, new / old.name)
            if name in before.files:  # a file that was damaged since is not what it was
                records[name] = before.files[name]
    revisions = _intact(standing, before, REVISIONS.name)
    if USAGE["1m"].name not in changed and revisions is not None:
        _same_file(revisions, new / revisions.name)
    elif (new / f"{USAGE['1m'].name}.parquet").is_file():
        _write_revisions(con, day, standing, before, asked, new)
    _write_coverage(con, lake, day, asked, new)
    for name in DATASETS:
        path = new / f"{name}.parquet"
        if path.is_file() and name not in records:
            _flush(path)
            records[name] = describe(DATASETS[name], path)
    facts = {"files": {name: asdict(of) for name, of in records.items()}, "read_at": dict(asked)}
    path = new / RECORD
    sealed = facts | {"seal": _seal(facts)}
    path.write_text(json.dumps(sealed, sort_keys=True, indent=1), encoding="utf-8")
    path.chmod(0o600)
    for path in (new / RECORD, new, new.parent):
        _flush(path)


def _seal(facts: Mapping[str, object]) -> str:
    """A hash of what a record says, so that a record that was changed is noticed."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _write_revisions(
    con: duckdb.DuckDBPyConnection,
    day: date,
    standing: Path | None,
    before: Record,
    asked: Mapping[Source, float],
    new: Path,
) -> None:
    """Add what the API has restated. What is damaged can't be compared with, nor added to."""
    minutes, revisions = USAGE["1m"], REVISIONS
    old = _intact(standing, before, minutes.name)
    known = _intact(standing, before, revisions.name)
    after = new / f"{minutes.name}.parquet"
    inputs = {
        "before": (minutes, [old] if old else []),
        "after": (minutes, [after]),
        "revisions_before": (revisions, [known] if known else []),
    }
    engine.bind(con, inputs)
    params = {
        "known_through": covered(old).window.end if old else day_window(day).start,
        "seen_at": datetime.fromtimestamp(asked.get("usage", 0.0), UTC),
    }
    rows = con.sql(engine.sql(revisions.name), params=params)
    path = new / f"{revisions.name}.parquet"
    files.write(revisions, rows.to_arrow_reader(files.ROW_GROUP), path, day_window(day))


def _intact(version: Path | None, record: Record, name: str) -> Path | None:
    """A version's file, if it is still what it was when it was published.

    Where the record is gone: if all of it can be read.
    """
    path = None if version is None else version / f"{name}.parquet"
    if path is None or not path.is_file():
        return None
    recorded = record.files.get(name)
    if recorded is not None:
        return path if digest(path) == recorded.sha256 else None
    with suppress(OSError, pa.ArrowException, ContractError):
        check_contract(DATASETS[name], path)
        pq.ParquetFile(path).read()
        return path
    return None


def _write_coverage(
    con: duckdb.DuckDBPyConnection, lake: Lake, day: date, asked: Mapping[Source, float], new: Path
) -> None:
    whole = day_window(day)
    known: list[dict[str, object]] = []
    counted: list[pa.Table] = []
    for name in DATASETS:
        if name in _UNCOVERED:
            continue
        path = new / f"{name}.parquet"
        source: Source = "usage" if name in USAGE_DATASETS else "conversations"
        # Listings are not cut by days: how far they are known is how far they were observed.
        extent = path if source == "usage" else new / f"{OBSERVED['1d'].name}.parquet"
        through = covered(extent).window.end if extent.is_file() else None
        known.append(
            {
                "dataset": name,
                "complete_through": _moment(through),
                "fetched_at": None if through is None else _moment(asked.get(source)),
            }
        )
        if path.is_file():
            with suppress(duckdb.Error):  # one that was damaged; whoever asks is told by verify
                counted.append(_rows_by_hour(con, name, path))
    hours = [
        {"start_time": _moment(start), "end_time": _moment(start + SECONDS["1h"])}
        for start in range(whole.start, whole.end, SECONDS["1h"])
    ]
    utc = COVERAGE.schema.field("fetched_at").type
    columns = [("dataset", pa.string()), ("complete_through", utc), ("fetched_at", utc)]
    con.register("known", pa.Table.from_pylist(known, schema=pa.schema(columns)))
    bounds = pa.schema([("start_time", utc), ("end_time", utc)])
    con.register("hours", pa.Table.from_pylist(hours, schema=bounds))
    con.register("counted", pa.concat_tables([_COUNTED.empty_table(), *counted]))
    rows = con.sql(
        engine.sql(COVERAGE.name), params={"restated_for": lake.lookback_days * SECONDS["1d"]}
    )
    path = new / f"{COVERAGE.name}.parquet"
    files.write(COVERAGE, rows.to_arrow_reader(files.ROW_GROUP), path, whole)


_COUNTED: Final = pa.schema(
    [
        ("dataset", pa.string()),
        ("start_time", pa.timestamp("us", tz="UTC")),
        ("num_rows", pa.int64()),
    ]
)


def _rows_by_hour(con: duckdb.DuckDBPyConnection, name: str, path: Path) -> pa.Table:
    moment = _MOMENT.get(name, "start_time")
    rows = engine.scan(DATASETS[name], [path])
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW moments AS SELECT {moment} AS start_time FROM ({rows})"
    )
    found = con.sql(engine.sql("rows_by_hour")).to_arrow_table()
    hours = pc.multiply(found.column("hour_number"), SECONDS["1h"] * 1_000_000)
    return pa.table(
        [
            pa.repeat(name, found.num_rows),
            hours.cast(_COUNTED.field("start_time").type),
            found.column("num_rows"),
        ],
        schema=_COUNTED,
    )


def describe(dataset: Dataset, path: Path) -> FileRecord:
    """What a file is: to be recorded, or to be held against what was recorded."""
    counts = [column.name for column in dataset.columns if column.type == pa.int64()]
    table = pq.ParquetFile(path).read(columns=counts)
    return FileRecord(
        rows=table.num_rows,
        bytes=path.stat().st_size,
        sha256=digest(path),
        schema=SCHEMA_VERSION,
        sums={name: _sum(table.column(name)) for name in counts},
    )


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum(column: pa.ChunkedArray) -> int:
    """The exact sum: 64-bit numbers may add up to more than 64 bits."""
    bounds = pc.min_max(column)
    largest = max(abs(bounds["min"].as_py() or 0), abs(bounds["max"].as_py() or 0))
    if largest * len(column) < 2**63:
        return int(pc.sum(column).as_py() or 0)
    return sum(value for value in column.to_pylist() if value is not None)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _make_it_count(lake: Lake, day: date, version: Path) -> None:
    place = lake.link(day)
    private_folder(place.parent)
    _point(place, Path("..", ".versions", day.isoformat(), version.name))
    _flush(place.parent)


def _point(place: Path, target: Path) -> None:
    """Make a link, in the place of whatever file or link is there, at one stroke."""
    aside = place.with_name(f".{place.name}.new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    if place.is_dir() and not place.is_symlink():  # of a lake that was copied without its links
        remove(place)
    aside.replace(place)


def _same_file(path: Path, other: Path) -> None:
    """Give a file a second name."""
    try:
        os.link(path, other)
    except OSError:  # not every file system has hard links
        shutil.copy2(path, other)


def _flush(path: Path) -> None:
    """Make a file's or a folder's content survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
