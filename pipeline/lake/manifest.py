"""What is known of a version's tables: coverage, revisions, and a manifest with a checksum.

Belongs here: computing these from the files of a version and those of the version before.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake import engine, files
from pipeline.lake.files import SCHEMA_VERSION, ContractError, check_contract, covered
from pipeline.lake.schemas import (
    COST_DATASETS,
    COVERAGE,
    COVERED,
    DATASETS,
    ITEMS,
    METER_DATASETS,
    METERS,
    OBSERVED,
    REVISIONS,
    USAGE,
    USAGE_DATASETS,
    Dataset,
)
from pipeline.lake.slices import in_slices
from pipeline.lake.store import MANIFEST, Lake
from pipeline.timeline import CLOCKS_DIFFER, SECONDS, day_window

Source = Literal["usage", "conversations", "totals"]
"""What is read from the API in one go: usage of conversations, whole and by user and key, or the
listings. totals: its hours by key alone, where that was later; it proves less than a reading. Every
other usage endpoint is read by itself: see `Reading`."""

BILLS: Final = "costs"
"""The name under which a manifest has the reading of what the API bills."""

Work = Literal["read", "observe", "reconcile"]
"""What a day can owe. read: records of it were lost, or its items are to be kept again, so the
listings of all with usage on it are to be read from the beginning. observe: the records that its
observed buckets count have changed. reconcile: what its reconciliation compares has changed."""

_METERS: Final = "meters:"
MOMENT: Final = {"conversations": "created_at", "responses": "created_at", "items": "added_at"}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What one file was when it was published. `sums` are those of its 64-bit integers."""

    rows: int
    bytes: int
    sha256: str
    schema: str
    sums: dict[str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of one endpoint on a day: when the API was asked, and through when, both in
    Unix seconds. `disputed`: the totals are not those that the API itself gives. `totals_at`: when
    its hours by key were found to be the same, if that was later."""

    read_at: float
    through: int
    disputed: bool = False
    totals_at: float | None = None

    @property
    def seen_at(self) -> float:
        """When the API was asked last, for whatever it was."""
        return max(self.read_at, self.totals_at or self.read_at)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version holds, and when the API was asked for it (Unix seconds).

    `disputed`: the totals of its usage are not those that the API itself gives. `owed`: what is
    still to be done about it, in order. `readings` are those of the other usage endpoints, and of
    BILLS, by name. `dropped` are the tables that are not kept any more.
    """

    files: dict[str, FileEntry] = field(default_factory=dict[str, FileEntry])
    read_at: dict[Source, float] = field(default_factory=dict[Source, float])
    disputed: bool = False
    owed: tuple[Work, ...] = ()
    readings: dict[str, Reading] = field(default_factory=dict[str, Reading])
    dropped: tuple[str, ...] = ()


def read_manifest(version: Path) -> Manifest:
    """What was recorded of a version; OSError or ValueError where that can't be read."""
    path = version / MANIFEST
    try:
        return manifest_from(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no record of a version: {error}") from None


def manifest_from(text: str) -> Manifest:
    """What the text of a record says. ValueError where it is none."""
    try:
        facts = json.loads(text)
        if facts.pop("seal") != _checksum(facts):
            raise ValueError("its seal is broken")
        return Manifest(
            {name: FileEntry(**of) for name, of in facts["files"].items()},
            facts["read_at"],
            bool(facts["disputed"]),
            tuple(facts["owed"]),
            {name: Reading(**of) for name, of in facts.get("readings", {}).items()},
            tuple(facts.get("dropped", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


def reading_of(version: Path | None, endpoint: str = "") -> Reading | None:
    """What was read of an endpoint (empty: that of conversations); None where it was not loaded."""
    record = manifest_of(version)
    if endpoint or version is None:
        return record.readings.get(endpoint)
    through = _through(version / f"{USAGE['1d'].name}.parquet")
    if through is None:
        return None
    read_at, totals_at = record.read_at.get("usage", 0.0), record.read_at.get("totals")
    return Reading(read_at, through, record.disputed, totals_at)


def manifest_of(version: Path | None) -> Manifest:
    """What was recorded of a version: nothing where it can't be read, which is to be replaced."""
    with suppress(OSError, ValueError):
        return Manifest() if version is None else read_manifest(version)
    return Manifest()


def is_final(lake: Lake, day: date, record: Manifest) -> bool:
    """Whether usage of a day was read whole, after the API's time to restate it."""
    return record.read_at.get("usage", 0.0) >= lake.final_from(day) and not record.disputed


def days_to_reload(lake: Lake, now: float) -> list[date]:
    """The days that need another load at `now` (Unix seconds), those read longest ago first.

    Those whose usage is disputed, and those that say they were read later than now: the clock was
    ahead then, so what is final about them is not known.
    """
    found: list[tuple[float, date]] = []
    for day in lake.all_days():
        record = manifest_of(lake.version(day))
        if record.disputed or any(at > now + CLOCKS_DIFFER for at in record.read_at.values()):
            found.append((record.read_at.get("usage", 0.0), day))
    return [day for _, day in sorted(found)]


def readings_to_reload(lake: Lake, endpoint: str, now: float) -> list[date]:
    """As `days_to_reload`, of another usage endpoint, or of BILLS."""
    found: list[tuple[float, date]] = []
    for day in lake.all_days():
        reading = manifest_of(lake.version(day)).readings.get(endpoint)
        if reading and (reading.disputed or reading.seen_at > now + CLOCKS_DIFFER):
            found.append((reading.read_at, day))
    return [day for _, day in sorted(found)]


def days_that_owe(lake: Lake, *work: Work) -> list[date]:
    """The days that owe any of `work`, in order."""
    return [day for day in lake.all_days() if set(manifest_of(lake.version(day)).owed) & {*work}]


def has_all_records(record: Manifest) -> bool:
    """Whether the records of a day are all there to be counted: what is left of them would give
    other buckets, and another reconciliation, than those that stand."""
    return ITEMS.name not in record.dropped and "read" not in record.owed


def days_without_items(lake: Lake) -> list[date]:
    """The days whose items are not kept any more, in order."""
    return [day for day in lake.all_days() if ITEMS.name in manifest_of(lake.version(day)).dropped]


def write_manifest(version: Path, record: Manifest) -> None:
    """Write down what a version holds."""
    facts = asdict(record)
    if not record.dropped:  # most lakes keep all, and their records say no more than they did
        del facts["dropped"]
    sealed = facts | {"seal": _checksum(facts)}
    path = version / MANIFEST
    path.write_text(json.dumps(sealed, sort_keys=True, indent=1), encoding="utf-8")
    path.chmod(0o600)


def _checksum(facts: Mapping[str, object]) -> str:
    """A hash of what a record says, so that a record that was changed is noticed."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write_revisions(
    con: duckdb.DuckDBPyConnection,
    day: date,
    standing: Path | None,
    before: Manifest,
    asked: Mapping[Source, float],
    new: Path,
) -> None:
    """Add what the API has restated. What is damaged can't be compared with, nor added to."""
    minutes, revisions = USAGE["1m"], REVISIONS
    old = intact(standing, before, minutes.name)
    known = intact(standing, before, revisions.name)
    path = new / f"{revisions.name}.parquet"
    if old is None and known is None:  # nothing that could have been restated
        files.write(revisions, (), path, day_window(day))
        return
    after = new / f"{minutes.name}.parquet"
    inputs = {
        "before": (minutes, [old] if old else []),
        "after": (minutes, [after]),
        "revisions_before": (revisions, [known] if known else []),
    }
    params = {
        "known_through": min(covered(it).window.end for it in (old, after))
        if old
        else day_window(day).start,
        "seen_at": datetime.fromtimestamp(asked.get("totals", asked.get("usage", 0.0)), UTC),
    }
    rows = (
        batch
        for _ in in_slices(con, inputs, SECONDS["1m"])  # in order, as the rows of each are
        for batch in con.sql(engine.sql(revisions.name), params=params).to_arrow_reader(
            files.ROW_GROUP
        )
    )
    files.write(revisions, rows, path, day_window(day))


def intact(version: Path | None, record: Manifest, name: str) -> Path | None:
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
        files.read_through(path)
        return path
    return None


def write_coverage(lake: Lake, day: date, record: Manifest, new: Path) -> None:
    """Say of each hour what is known of it, by `record` and the files in `new`."""
    whole = day_window(day)
    rows: list[dict[str, object]] = []
    by_endpoint = _rows_of_endpoints(new)
    for name, known in _all_known(lake, record, new):
        counted: Mapping[int, int] = by_endpoint.get(name, {})
        with suppress(OSError, KeyError, pa.ArrowException):  # damaged: verify reports it
            counted = counted or _rows_by_hour(name, new / f"{name}.parquet")
        for start in range(whole.start, whole.end, SECONDS["1h"]):
            hour = datetime.fromtimestamp(start, UTC)
            rows.append({"dataset": name, "rows": counted.get(start, 0), **known.of(hour)})
    table = pa.Table.from_pylist(rows, schema=COVERAGE.schema)
    files.write(COVERAGE, table.to_batches(), new / f"{COVERAGE.name}.parquet", whole)


def recount_coverage(day: date, before: Path, tables: Mapping[str, Path], new: Path) -> None:
    """Write the coverage of a day with the rows of other files of some tables counted anew."""
    counted = {name: _rows_by_hour(name, path) for name, path in tables.items()}
    rows = pq.read_table(before, schema=COVERAGE.schema).to_pylist()
    for row in rows:
        if row["dataset"] in counted:
            hour = int(row["start_time"].timestamp())
            row["rows"] = counted[row["dataset"]].get(hour, 0)
    table = pa.Table.from_pylist(rows, schema=COVERAGE.schema)
    files.write(COVERAGE, table.to_batches(), new, day_window(day))


def meters_of(endpoint: str) -> str:
    """What `coverage` calls the rows of one endpoint in the tables of meters."""
    return f"{_METERS}{endpoint}"


def endpoint_of(name: str) -> str:
    """The endpoint that `coverage` means by the name of its rows."""
    return BILLS if name in COST_DATASETS else name.removeprefix(_METERS)


def _all_known(lake: Lake, record: Manifest, new: Path) -> list[tuple[str, _Known]]:
    """What is known of each table, and of each endpoint that was read, in order."""
    restated_for = lake.lookback_days * SECONDS["1d"]
    read = {name: one for name, one in record.readings.items() if name != BILLS}
    bills = [record.readings[BILLS]] if BILLS in record.readings else []
    known: dict[str, _Known] = {}
    for name in COVERED:
        path = new / f"{name}.parquet"
        if name in record.dropped:
            known[name] = _Known(None, None, None, False, restated_for, dropped=True)
            continue
        if name in METER_DATASETS or name in COST_DATASETS:
            readings = bills if name in COST_DATASETS else [*read.values()]
            known[name] = _read_of(readings if path.is_file() else [], restated_for)
            continue
        listed = name not in USAGE_DATASETS
        # Listings are not cut by days: how far they are known is how far they were observed.
        through = _through(new / f"{OBSERVED['1d'].name}.parquet" if listed else path)
        if listed and "read" in record.owed:  # records of the day were lost
            through = None
        read_at = record.read_at.get("conversations" if listed else "usage")
        seen_at = read_at
        if not listed and read_at is not None:
            seen_at = max(read_at, record.read_at.get("totals", read_at))
        disputed = not listed and record.disputed
        known[name] = _Known(
            _moment(through), _moment(read_at), _moment(seen_at), disputed, restated_for
        )
    known |= {meters_of(name): _read_of([one], restated_for) for name, one in read.items()}
    return sorted(known.items())


def _read_of(readings: Sequence[Reading], restated_for: int) -> _Known:
    """What is known where several endpoints were read: no more than of the one known least."""
    if not readings:
        return _Known(None, None, None, False, restated_for)
    return _Known(
        _moment(min(one.through for one in readings)),
        _moment(min(one.read_at for one in readings)),
        _moment(min(one.seen_at for one in readings)),
        any(one.disputed for one in readings),
        restated_for,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a table on a day: through when it goes, when it was read, and when it was
    last asked for, be it by its totals alone."""

    through: datetime | None
    read_at: datetime | None
    fetched_at: datetime | None
    disputed: bool
    restated_for: int
    """Seconds after an hour within which the API may still restate it."""
    dropped: bool = False
    """Whether its rows are not kept any more."""

    def of(self, start: datetime) -> dict[str, object]:
        """The columns of `coverage` for the hour from `start` on, its rows aside."""
        end = start + timedelta(hours=1)
        bounds = {"start_time": start, "end_time": end}
        if self.through is None or self.through <= start:
            status = "dropped" if self.dropped else "missing"
            return {**bounds, "status": status, "complete_through": None, "fetched_at": None}
        settled = (
            self.read_at is not None
            and self.read_at.timestamp() >= end.timestamp() + self.restated_for
        )
        final = "final" if settled and self.through >= end else "provisional"
        return {
            **bounds,
            "status": "disputed" if self.disputed else final,
            "complete_through": None if self.disputed else min(self.through, end),
            "fetched_at": self.fetched_at,
        }


def _through(path: Path) -> int | None:
    """Through when a file goes; None where there is none, or a damaged one, which verify names."""
    with suppress(OSError, pa.ArrowException, ContractError):
        return covered(path).window.end
    return None


def _rows_by_hour(name: str, path: Path) -> Counter[int]:
    """How many rows of a table lie in each UTC hour (Unix seconds), those without rows left out."""
    moment = MOMENT.get(name, "start_time")
    counted: Counter[int] = Counter()
    for batch in files.row_groups(path, [moment]):
        counted += _by_hour(batch.column(moment))
    return counted


def _rows_of_endpoints(version: Path) -> Mapping[str, Mapping[int, int]]:
    """The same of each endpoint in the finest table of meters, by its name in `coverage`."""
    counted: dict[str, Counter[int]] = {}
    paths = [version / f"{dataset.name}.parquet" for dataset in METERS.values()]
    path = next((path for path in paths if path.is_file()), paths[0])
    with suppress(OSError, KeyError, pa.ArrowException):  # damaged, or not there
        columns = ["endpoint", "start_time"]
        for batch in files.row_groups(path, columns):
            endpoints, times = batch.columns
            for endpoint in endpoints.unique().to_pylist():
                found = _by_hour(times.filter(pc.equal(endpoints, endpoint)))
                counted.setdefault(meters_of(endpoint), Counter()).update(found)
    return counted


def _by_hour(times: pa.Array) -> Counter[int]:
    # As numbers: a time that cannot be may be beyond the years that Python knows. No day of the
    # lake is before 1970; division would round what is up, into its first hour.
    micros = times.cast(pa.int64()).drop_null()
    hours = pc.divide(micros.filter(pc.greater_equal(micros, 0)), SECONDS["1h"] * 1_000_000)
    found = pc.value_counts(hours).to_pylist()
    return Counter({one["values"] * SECONDS["1h"]: one["counts"] for one in found})


def describe(dataset: Dataset, path: Path) -> FileEntry:
    """What a file is: to be recorded, or to be compared with what was recorded."""
    counts = [column.name for column in dataset.columns if column.type == pa.int64()]
    rows, sums = 0, dict.fromkeys(counts, 0)
    for batch in files.row_groups(path, counts):
        rows += batch.num_rows
        for name in counts:
            sums[name] += _sum(batch.column(name))
    return FileEntry(rows, path.stat().st_size, digest(path), SCHEMA_VERSION, sums)


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum(column: pa.Array) -> int:
    """The exact sum: 64-bit numbers may add up to more than 64 bits."""
    bounds = pc.min_max(column)
    largest = max(abs(bounds["min"].as_py() or 0), abs(bounds["max"].as_py() or 0))
    if largest * len(column) < 2**63:
        return int(pc.sum(column).as_py() or 0)
    return sum(value for value in column.to_pylist() if value is not None)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
