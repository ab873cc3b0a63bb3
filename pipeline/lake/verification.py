"""Is the lake what was published? Every file compared with its manifest.

Belongs here: finding files that were changed, cut short, removed or put there by somebody else, and
tables of a day that contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline import messages
from pipeline.apart import is_apart
from pipeline.lake import consistency, engine
from pipeline.lake.catalog import difference
from pipeline.lake.commit import target
from pipeline.lake.damage import is_sound, wrong_with
from pipeline.lake.manifest import FileEntry, describe, read_manifest
from pipeline.lake.schemas import (
    DATASETS,
    LEDGER_DATASETS,
    RECORD_DATASETS,
    USAGE_DATASETS,
)
from pipeline.lake.shortage import shortage
from pipeline.lake.store import MANIFEST, Lake
from pipeline.messages import count

_FROM_LISTINGS: Final = DATASETS.keys() - USAGE_DATASETS.keys() - LEDGER_DATASETS.keys()
"""What a run fixes that reads the listings from the beginning."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file, a link or a folder.

    `day` says what to load again, and `full` that all listings are to be read from the beginning.
    """

    path: Path
    day: date | None
    what: str
    full: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what was found."""

    days: int
    files: int
    problems: tuple[Problem, ...]


def verify(lake: Lake, catalog: Path, days: Sequence[date] | None = None) -> Verified:
    """Read every file of every day (or of `days`) that counts again, hold it against its record.

    Publications wait until a day has been looked at, unless the lake can only be read from here.
    """
    problems: list[Problem] = []
    files = 0
    days = _days(lake) if days is None else days
    with closing(engine.connect(lake)) as con:
        for day in days:
            with lake.reading("publish") as alone:
                found = list(_of_day(con, lake, day))
            if found and not alone:  # it may have been published at that moment
                found = list(_of_day(con, lake, day))
            problems += map(_of_records_apart, found) if is_apart(day) else found
            version = lake.version(day)
            files += len(list(version.glob("*.parquet"))) if version else 0
        problems += _ids(con, lake)
    problems += _of_catalog(lake, catalog)
    return Verified(len(days), files, tuple(problems))


def _of_records_apart(problem: Problem) -> Problem:
    """What is wrong with records of days that are not loaded: these can't be loaded again."""
    what = f"{problem.what}: `{messages.FULL}` over all days that are loaded puts that right"
    return replace(problem, day=None, what=what)


def _days(lake: Lake) -> list[date]:
    """Every day of which any trace is there: where one of them is missing, the others show it."""
    names = [path.name for path in (lake.root / ".versions").glob("????-??-??")]
    names += [path.name for path in (lake.root / "days").glob("????-??-??")]
    for dataset in DATASETS:
        folders = (lake.root / dataset).glob("day=????-??-??")
        names += [path.name.removeprefix("day=") for path in folders]
    found = {date.fromisoformat(name) for name in names}
    return sorted(found.difference(_never_committed(lake)))


def _never_committed(lake: Lake) -> list[date]:
    """The days that a commit is to bring, or was to, and has not: the next one begins anew."""
    changing = lake.days_changing()
    return [day for day, had_one in changing.items() if not had_one and lake.version(day) is None]


def _of_day(con: duckdb.DuckDBPyConnection, lake: Lake, day: date) -> Iterator[Problem]:
    version = lake.version(day)
    if version is None or not version.is_dir():
        yield Problem(lake.link(day), day, "removed, or it leads nowhere")
        return
    try:
        record = read_manifest(version)
    except (OSError, ValueError) as error:
        yield Problem(version / MANIFEST, day, f"changed, cut short or removed ({error})")
        return
    sound = True
    for name, recorded in record.files.items():
        path = version / f"{name}.parquet"
        what = _difference(name, path, recorded)
        if what is not None:
            sound = False
            yield Problem(path, day, what, name in _FROM_LISTINGS)
        link = lake.path(name, day)
        if not (link.is_symlink() and link.readlink() == target(name, day)):
            yield Problem(link, day, "removed, or it does not lead to its file")
    expected = {MANIFEST, *(f"{name}.parquet" for name in record.files)}
    yield from _strangers(version, expected, day)
    for name in DATASETS:
        place = lake.path(name, day)
        if place.parent.is_dir():
            yield from _strangers(place.parent, {place.name} if name in record.files else (), day)
    if "read" in record.owed:
        what = "records of the day have to be read again: they were lost, or are to be kept again"
        yield Problem(lake.link(day), day, what, full=True)
    elif record.owed:
        what = "what is derived from the records is older than they are: any run derives it again"
        yield Problem(lake.link(day), None, what)
    if sound:
        yield from _contradictions(con, version, day)


def _ids(con: duckdb.DuckDBPyConnection, lake: Lake) -> Iterator[Problem]:
    """Records that stand in the lake more than once."""
    for name in RECORD_DATASETS:
        paths = [path for path in lake.files(name) if is_sound(path)]
        try:
            for finding in consistency.ids(con, {name: paths}):
                what = f"{finding}: `{messages.FULL}` over the days of its users puts that right"
                yield Problem(lake.root / name, None, what)
        except duckdb.Error as error:
            if shortage(error):
                raise
            # a file that is reported by its bytes


def _difference(name: str, path: Path, recorded: FileEntry) -> str | None:
    """How a file differs from what was recorded of it; None where it does not."""
    what = wrong_with(path, recorded, thorough=True)
    if what is not None:
        return what
    try:
        found = describe(DATASETS[name], path)
    except (OSError, pa.ArrowException) as error:
        return f"can't be read: {error}"
    if found != recorded:
        return f"it has {_facts(found)}, the record says {_facts(recorded)}"
    return None


def _facts(record: FileEntry) -> str:
    sums = ", ".join(f"{name} {total:,}" for name, total in record.sums.items())
    return f"{count(record.rows, 'row')} of schema {record.schema}" + (f" ({sums})" if sums else "")


def _strangers(folder: Path, expected: set[str] | tuple[()], day: date) -> Iterator[Problem]:
    for path in sorted(folder.iterdir()):
        if path.name not in expected:
            yield Problem(path, day, "not published by any run: remove it")


def _contradictions(con: duckdb.DuckDBPyConnection, version: Path, day: date) -> Iterator[Problem]:
    files = {name: [version / f"{name}.parquet"] for name in USAGE_DATASETS}
    if all(path.is_file() for paths in files.values() for path in paths):
        for finding in [*consistency.totals(con, files), *consistency.rollups(con, files)]:
            yield Problem(version, day, f"tables contradict each other: {finding}")


_ANY: Final = "SELECT count(*) FROM {}"


def _of_catalog(lake: Lake, catalog: Path) -> Iterator[Problem]:
    """The catalog is what was published, it opens, and its views find their files."""
    hint = "any run builds it anew"
    if not catalog.is_file():
        yield Problem(catalog, None, f"removed: {hint}")
        return
    changed = difference(lake, catalog)
    if changed is not None:
        yield Problem(
            catalog,
            None,
            f"not as it was published: {changed}; {hint}, and keeps what was put into it in a "
            "folder beside it",
        )
        return
    try:
        with (
            engine.openable(catalog) as readable,
            closing(duckdb.connect(str(readable), read_only=True)) as con,
        ):
            for name in DATASETS:
                con.sql(_ANY.format(name)).fetchall()
    except (duckdb.Error, pa.ArrowException) as error:
        if shortage(error):
            raise
        yield Problem(catalog, None, f"can't be read ({str(error).splitlines()[0]}): {hint}")
