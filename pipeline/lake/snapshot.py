"""The lake as every reader sees it: at one moment, without the files that are damaged.

Belongs here: which version of each day is read, which of its files, and what coverage says then. A
damaged file is left out, and coverage says that its hours are missing: no reader takes them for
empty. A reader that shows less than was published says so, in the words of `warnings`.

A day of the lake is one of which usage is loaded, or that lies between two of those. Records may be
of other days, and stand apart (`pipeline.apart`): these are no days that are missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from pipeline.apart import is_apart
from pipeline.lake import engine
from pipeline.lake.damage import damaged
from pipeline.lake.engine import literal, scan
from pipeline.lake.files import ContractError, Loaded, covered
from pipeline.lake.manifest import manifest_of
from pipeline.lake.schemas import COVERAGE, COVERED, DATASETS, METERS, USAGE
from pipeline.lake.shortage import first_line, shortage
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, day_range, day_window, spans

ADVICE: Final = "`mka1-usage verify` says how to fix it"
"""What to do about a damaged file."""

_USAGE: Final = USAGE["1d"].name


class Damage(NamedTuple):
    """A file that is left out, and what is wrong with it."""

    day: date
    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def left_out(damage: Damage) -> str:
    """What is said of a damaged file, and what to do."""
    return f"left out, since it is damaged: {damage}; {ADVICE}"


class DamagedError(ContractError):
    """What is asked for takes a file that is damaged. The message names it and says what to do."""

    def __init__(self, damage: Sequence[Damage]) -> None:
        more = f" (and {len(damage) - 1:,} more)" if damage[1:] else ""
        super().__init__(f"damaged: {damage[0]}{more}; {ADVICE}")
        self.damage = damage


def reason(lake: Lake, error: Exception) -> str:
    """Why reading the lake failed: too little memory or disk, or the damaged files that are found
    when every one is read.

    Where none is, what the library says, in one line.
    """
    if isinstance(error, DamagedError):
        return str(error)
    if words := shortage(error):
        return words
    damage = Snapshot(lake, thorough=True).damage
    return str(DamagedError(damage)) if damage else first_line(error)


class Snapshot:
    """The versions that counted together at one moment, of all days or of `days`.

    A file is tested for damage when it is first asked for; `damage` tests those of `names`, of all
    datasets by default. `thorough` reads a whole file to test it.
    """

    def __init__(
        self,
        lake: Lake,
        days: Iterable[date] | None = None,
        *,
        names: Collection[str] = DATASETS.keys(),
        thorough: bool = False,
    ) -> None:
        self.lake = lake
        self.versions = lake.versions_at_once(days)
        self.lookback_days = lake.lookback_days
        self._names = frozenset(names)
        self._thorough = thorough
        self._tested: dict[date, dict[str, str | None]] = {day: {} for day in self.versions}

    @cached_property
    def damage(self) -> list[Damage]:
        """Each file that is left out, in order; of a day that is gone as a whole, its folder."""
        return self.damage_of(self.versions, self._names)

    def damage_of(self, days: Iterable[date], names: Collection[str]) -> list[Damage]:
        """The damage to the files of these days and datasets alone."""
        found: set[Damage] = set()
        for day in self.versions.keys() & set(days):
            wrong = self._wrong(day, names)
            version = self.versions[day]
            whole = bool(wrong) and not version.is_dir()
            for name, what in wrong.items():
                path = version if whole else version / f"{name}.parquet"
                found.add(Damage(day, path, what))
        return sorted(found)

    def check(self, days: Iterable[date], names: Collection[str]) -> None:
        """Raise DamagedError where a file of these days and datasets is damaged."""
        if found := self.damage_of(days, names):
            raise DamagedError(found)

    @property
    def warnings(self) -> Iterator[str]:
        """A sentence for each file that is left out, with what to do."""
        return map(left_out, self.damage)

    def is_damaged(self, name: str, day: date) -> bool:
        """Whether a day's file of a dataset was published and is left out."""
        return day in self.versions and bool(self._wrong(day, (name,)))

    def is_dropped(self, name: str, day: date) -> bool:
        """Whether a day's table was there and is not kept any more."""
        version = self.versions.get(day)
        if version is None or (version / f"{name}.parquet").is_file():
            return False
        return name in manifest_of(version).dropped

    def file(self, name: str, day: date) -> Path | None:
        """A day's file of a dataset, where there is one that is not damaged."""
        version = self.versions.get(day)
        if version is None or self.is_damaged(name, day):
            return None
        path = version / f"{name}.parquet"
        return path if path.is_file() else None

    def published(self, name: str, days: Iterable[date] | None = None) -> list[Path]:
        """The files of a dataset, damaged or not, of all days or of `days`, in order."""
        wanted = self.versions if days is None else sorted(self.versions.keys() & set(days))
        paths = (self.versions[day] / f"{name}.parquet" for day in wanted)
        return [path for path in paths if path.is_file()]

    def loaded(self, name: str, day: date) -> Loaded | None:
        """What a day's file of a dataset covers; None where there is none to read."""
        path = self.file(name, day)
        if path is None:
            return None
        found = path.stat()
        return _covered(path, found.st_ino, found.st_mtime_ns)

    def files(self, name: str, days: Iterable[date] | None = None) -> list[Path]:
        """The files of a dataset, of all days or of `days`, in order."""
        wanted = self.versions if days is None else sorted(set(days))
        return [path for day in wanted if (path := self.file(name, day)) is not None]

    def days(self, name: str) -> list[date]:
        """The days of which a dataset can be read, in order."""
        return [day for day in self.versions if self.file(name, day) is not None]

    @cached_property
    def extent(self) -> tuple[date, date] | None:
        """The first and the last day of which usage was loaded, whatever became of its file."""
        loaded = [
            day
            for day, version in self.versions.items()
            if not is_apart(day)
            and (self.is_damaged(_USAGE, day) or (version / f"{_USAGE}.parquet").is_file())
        ]
        return (loaded[0], loaded[-1]) if loaded else None

    def bind_coverage(
        self, con: duckdb.DuckDBPyConnection, days: Iterable[date] | None = None
    ) -> None:
        """Make the view `coverage` of a connection, of all days or of `days`."""
        con.execute(f"CREATE OR REPLACE TEMP VIEW {COVERAGE.name} AS {self.coverage(days)}")

    def coverage(self, days: Iterable[date] | None = None) -> str:
        """A SELECT of coverage, with the contract's columns: what was published of the days, the
        hours of damaged files and of days in between that have no version as missing.
        """
        asked = None if days is None else set(days)
        within: list[Path] = []
        outside: list[Path] = []
        parts: list[str] = []
        stretches = [(name, first, last) for first, last in self._absent(asked) for name in COVERED]
        for day in self.versions:
            path = self.file(COVERAGE.name, day)
            if path is None or is_apart(day) or not (asked is None or day in asked):
                continue
            lost = [name for name in COVERED if self.is_damaged(name, day)]
            if not self._is_within(day):
                outside.append(path)
            elif lost:
                names = ", ".join(map(literal, lost))
                of_endpoints = (
                    " AND NOT contains(dataset, ':')" if METERS["1m"].name in lost else ""
                )
                parts.append(
                    f"{scan(COVERAGE, [path])} WHERE dataset NOT IN ({names}){of_endpoints}"
                )
                stretches += [(name, day, day) for name in lost]
            else:
                within.append(path)
        if within or not (parts or outside):
            parts.append(scan(COVERAGE, within))
        if outside:  # what is not known of days that are none of the lake's is not missing
            parts.append(f"{scan(COVERAGE, outside)} WHERE status <> 'missing'")
        if stretches:
            rows = ", ".join(
                f"({literal(name)}, {_number(first)}, {_number(last)})"
                for name, first, last in stretches
            )
            columns = "stretches(dataset, first_day, last_day)"
            parts.append(f"FROM (WITH {columns} AS (VALUES {rows}) {engine.sql('missing_hours')})")
        return " UNION ALL ".join(parts)

    def _wrong(self, day: date, names: Collection[str]) -> dict[str, str]:
        """What is wrong with the files of these datasets; each is tested once."""
        tested = self._tested[day]
        if new := [name for name in names if name not in tested]:
            found = damaged(self.versions[day], thorough=self._thorough, names=new)
            tested.update((name, found.get(name)) for name in new)
        return {name: what for name in names if (what := tested[name]) is not None}

    def _is_within(self, day: date) -> bool:
        return self.extent is not None and self.extent[0] <= day <= self.extent[1]

    def _absent(self, asked: Collection[date] | None) -> list[tuple[date, date]]:
        """Stretches of days between the first and the last of which nothing says what is known."""
        if self.extent is None:
            return []
        known = {day for day in self.versions if self.file(COVERAGE.name, day) is not None}
        return spans(
            day
            for day in day_range(*self.extent)
            if day not in known and (asked is None or day in asked)
        )


@lru_cache(maxsize=8_192)
def _covered(path: Path, _inode: int, _changed: int) -> Loaded:
    """A file of a version never changes; a lake that was begun anew has others by their names."""
    return covered(path)


def _number(day: date) -> int:
    return day_window(day).start // DAY
