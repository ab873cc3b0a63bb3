"""The tables: every day that names the person becomes a version that does not, and the others go.

Belongs here: what becomes of a row. A person's rows get another name in the place of the id, so
that each total stays: those by key, by hour and by day, and those that the API gives. What people
write (`metadata`, unknown fields, contents) goes, of the person's rows and of all that name them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.conversations.observe import conversations_of
from pipeline.forget.person import Person
from pipeline.lake import engine, files
from pipeline.lake.commit import adopt, restore_links
from pipeline.lake.files import DISPUTED, ContractError, covered, noted
from pipeline.lake.manifest import describe, read_manifest, write_manifest
from pipeline.lake.schemas import DATASETS, ITEM_CONTENTS, Dataset
from pipeline.lake.store import MANIFEST, Lake, flush_file

_TEXTS: Final = ("extra", "metadata", "body")
"""Columns that hold what people, or a later API, write."""
_UNREADABLE: Final = (OSError, ValueError, duckdb.Error, pa.ArrowException, ContractError)


@dataclass(frozen=True, slots=True)
class _Change:
    """What is looked for in a file, and put in its place."""

    person: Person
    name: str

    def condition(self, dataset: Dataset) -> str | None:
        """Which rows name the person; None where the dataset has no column that can."""
        tests = [f"{text} IN (SELECT said FROM naming)" for text in _texts(dataset)]
        if "user_id" in dataset.schema.names:
            tests.append("user_id = $user")
        if dataset is ITEM_CONTENTS:
            tests.append("conversation_id IN (SELECT id FROM gone)")
        return " OR ".join(f"coalesce({test}, false)" for test in tests) or None

    def rows(self, dataset: Dataset) -> str:
        """A SELECT of all rows, in the contract's order, without the person."""
        names = dataset.schema.names
        if dataset is ITEM_CONTENTS:
            chosen = f"{', '.join(names)} FROM stored WHERE NOT ({self.condition(dataset)})"
        else:
            values = [self._value(name, dataset) for name in names]
            chosen = f"{', '.join(values)} FROM stored"
        order = ", ".join(f"{name} NULLS FIRST" for name in names)
        return f"SELECT * FROM (SELECT {chosen}) ORDER BY {order}"

    def params(self, sql: str) -> dict[str, str]:
        """The parameters that a statement names."""
        every = {"user": self.person.stored_id, "name": self.name}
        return {name: value for name, value in every.items() if f"${name}" in sql}

    def _value(self, name: str, dataset: Dataset) -> str:
        if name == "user_id":
            return "CASE WHEN user_id = $user THEN $name ELSE user_id END AS user_id"
        if name in _TEXTS:
            return f"CASE WHEN {self.condition(dataset)} THEN NULL ELSE {name} END AS {name}"
        return name


def count_rows(lake: Lake, person: Person) -> tuple[int, int]:
    """How many rows of all tables are of the person, and on how many days."""
    rows = 0
    days: set[date] = set()
    change = _Change(person, "")
    with closing(engine.connect(lake)) as con:
        for day, version in lake.versions_at_once().items():
            for name, dataset in DATASETS.items():
                path = version / f"{name}.parquet"
                if "user_id" not in dataset.schema.names or not path.is_file():
                    continue
                try:
                    engine.bind(con, {"stored": (dataset, [path])})
                    found = _count(con, "user_id = $user", change)
                except _UNREADABLE:  # the search reports it
                    continue
                rows += found
                days |= {day} if found else set()
    return rows, len(days)


def redo_days(lake: Lake, person: Person, name: str, on_day: Callable[[date], None]) -> list[date]:
    """Let `name` stand for the person in every day; returns the days that were redone.

    No version of any day that named them is left, nor any version that was replaced. To be called
    with the locks `sync` and `records`; waits for each day's own. Raises OSError, duckdb.Error.
    """
    restore_links(lake)
    redone: list[date] = []
    change = _Change(person, name)
    with closing(engine.connect(lake)) as con:
        gone = conversations_of(con, lake, (person.stored_id, name))
        _bind_gone(con, gone)
        for day in lake.all_days():
            with lake.day_lock(day):
                while (version := lake.version(day)) is not None:
                    after = _redone(con, lake, day, version, change)
                    if after == version:
                        break
                    if day not in redone:
                        redone.append(day)
                        on_day(day)
                with lake.lock("publish"):
                    if version is not None and lake.versions(day).is_dir():
                        lake.expire(day, at_once=True)
    return redone


def _redone(
    con: duckdb.DuckDBPyConnection, lake: Lake, day: date, version: Path, change: _Change
) -> Path:
    """The version that does not name the person: the same one where it does not."""
    try:
        record = read_manifest(version)
    except _UNREADABLE:  # `verify` says how to fix it, and the search reports it
        return version
    named = [name for name in record.files if _names(con, change, version / f"{name}.parquet")]
    if not named:
        return version
    with lake.staging() as folder:
        new = folder / day.isoformat()
        new.mkdir(mode=0o700)
        entries = dict(record.files)
        for path in sorted(version.glob("*.parquet")):
            target, dataset = new / path.name, DATASETS.get(path.stem)
            if dataset is None or path.stem not in named:
                _same_file(path, target)
                continue
            _write(con, change, dataset, path, target)
            flush_file(target)
            entries[path.stem] = describe(dataset, target)
        write_manifest(new, replace(record, files=entries))
        flush_file(new / MANIFEST)
        adopted = adopt(lake, {day: new}, {day: version})
    return adopted.get(day) or lake.version(day) or version


def _names(con: duckdb.DuckDBPyConnection, change: _Change, path: Path) -> bool:
    try:
        dataset = DATASETS[path.stem]
        condition = change.condition(dataset)
        if condition is None or not path.is_file():
            return False
        _bind(con, dataset, path, change)
        return _count(con, condition, change) > 0
    except _UNREADABLE:
        return False


def _count(con: duckdb.DuckDBPyConnection, condition: str, change: _Change) -> int:
    sql = f"SELECT count(*) FROM stored WHERE {condition}"
    ((found,),) = con.execute(sql, change.params(sql)).fetchall()
    return int(found)


def _write(
    con: duckdb.DuckDBPyConnection, change: _Change, dataset: Dataset, path: Path, target: Path
) -> None:
    _bind(con, dataset, path, change)
    sql = change.rows(dataset)
    rows = con.sql(sql, params=change.params(sql)).to_arrow_reader(files.ROW_GROUP)
    notes = {DISPUTED: noted(path, DISPUTED)}
    files.write(dataset, rows, target, covered(path).window, notes)


def _texts(dataset: Dataset) -> list[str]:
    return [name for name in _TEXTS if name in dataset.schema.names]


def _bind(con: duckdb.DuckDBPyConnection, dataset: Dataset, path: Path, change: _Change) -> None:
    """Make a file the view `stored`, and its texts that name the person the table `naming`.

    The database takes those that may; the same code as in the search says which do.
    """
    engine.bind(con, {"stored": (dataset, [path])})
    naming: set[str] = set()
    for text in _texts(dataset):
        sql = (
            f"SELECT DISTINCT {text} FROM stored "
            f"WHERE len(list_filter($parts, lambda part: contains({text}, part))) > 0"
        )
        params = {"parts": [*change.person.parts]}
        for batch in con.sql(sql, params=params).to_arrow_reader(files.ROW_GROUP):
            naming.update(it for it in batch.column(0).to_pylist() if change.person.is_in(it))
    con.register("naming", pa.table({"said": pa.array(sorted(naming), pa.string())}))


def _bind_gone(con: duckdb.DuckDBPyConnection, ids: Iterable[str]) -> None:
    """Make the ids of the person's conversations a table."""
    con.register("gone", pa.table({"id": pa.array(sorted(ids), pa.string())}))


def _same_file(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:  # not every file system has hard links
        shutil.copy2(path, other)
