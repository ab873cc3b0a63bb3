"""What is no table: pages that are being read, exports, reports, Dagster's records, logs.

Belongs here: what of it is removed, since a run makes it anew, and what is written anew. What
people have written themselves is left to them: the search names it.
"""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Any, Final

from pipeline.conversations import cursors
from pipeline.forget import search
from pipeline.forget.person import Person
from pipeline.lake.store import Lake, remove, replacing

_WAIT: Final = 60.0
"""Seconds to wait for Dagster, where it holds its database."""
_EXPORT: Final = "export.json"
_NOTED: Final = {".json", ".log", ".db", ".sqlite"}
"""Endings of files that commands write; those that people write, such as CSV, are left alone."""
_SERVERS: Final = ("postgres", "mysql")


def forget_state(lake: Lake, person: Person, name: str) -> None:
    """Let syncs go on where they were, for a user of another name; with the lock `sync`."""
    cursors.rename_users(lake, {person.stored_id: name})


def forget_pages(lake: Lake) -> None:
    """Remove the pages of days that were not read to their end: the next load asks for them again.

    Waits for loads that are at work.
    """
    partial = lake.root / ".partial"
    for folder in (*partial.glob("????-??-??"), *partial.glob("[!.0-9]*/????-??-??")):
        with lake.day_lock(date.fromisoformat(folder.name)):
            remove(folder)


def forget_outputs(home: Path, export_dir: Path, person: Person) -> list[Path]:
    """Remove the report, which can show the person by a name too, and an export that names them;
    returns what was removed."""
    removed: list[Path] = []
    report = home / "report"
    if report.is_dir():
        shutil.rmtree(report)
        removed.append(report)
    for manifest in {export_dir / _EXPORT, *home.glob(f"*/{_EXPORT}")}:
        folder = manifest.parent
        if manifest.is_file() and _any_names(folder, person):
            for path in list(folder.iterdir()):  # the folder itself may be mounted elsewhere
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            removed.append(folder)
    return sorted(removed)


def _any_names(folder: Path, person: Person) -> bool:
    for path in search.files_below([folder]):
        try:
            if search.names(path, person):
                return True
        except Exception:  # noqa: BLE001 - what can't be read of an export is no use to anybody
            return True
    return False


def forget_records(
    lake: Lake, home: Path, dagster_home: Path, person: Person, name: str
) -> list[Path]:
    """Let Dagster's databases and logs, and what commands note in the home, speak of the person by
    another name; returns which did not.

    OSError, sqlite3.Error where one can't be written.
    """
    changed: list[Path] = []
    records = [*search.files_below([dagster_home])]
    notes = (path for path in search.files_below([home]) if path.suffix in _NOTED)
    apart = (lake.root, dagster_home.absolute())
    records += (
        path for path in notes if not any(path.absolute().is_relative_to(it) for it in apart)
    )
    for path in records:
        try:
            with path.open("rb") as file:
                head = file.read(16)
        except FileNotFoundError:
            continue
        if head.startswith(b"SQLite format 3"):
            if _rewrite_database(path, person, name):
                changed.append(path)
        elif b"\0" not in head and path.suffix != ".lock" and _rewrite_text(path, person, name):
            changed.append(path)
    return changed


def keeps_records_elsewhere(dagster_home: Path) -> bool:
    """Whether Dagster keeps its runs in a database server, by its dagster.yaml."""
    try:
        text = (dagster_home / "dagster.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = (line.partition("#")[0] for line in text.splitlines())
    return any(server in line for line in lines for server in _SERVERS)


def _rewrite_text(path: Path, person: Person, name: str) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return False
    renamed = person.replaced(text, name)
    if renamed == text:
        return False
    with replacing(path) as aside:
        aside.write_text(renamed, encoding="utf-8")
    return True


def _rewrite_database(path: Path, person: Person, name: str) -> bool:
    with closing(sqlite3.connect(path, timeout=_WAIT)) as con:
        con.execute("PRAGMA secure_delete = ON")
        tables = con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        changed = 0
        for (table,) in tables:
            for rowid, values in list(_rows_to_rename(con, table, person, name)):
                sets = ", ".join(f'"{column}" = ?' for column in values)
                con.execute(
                    f'UPDATE "{table}" SET {sets} WHERE rowid = ?',
                    [*values.values(), rowid],
                )
                changed += 1
        con.commit()
        # What was removed may stand in free pages, or in the log that is not yet in the file.
        if changed or _bytes_name(path, person):
            con.execute("VACUUM")
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return changed > 0


def _bytes_name(path: Path, person: Person) -> bool:
    logs = [path.with_name(f"{path.name}{end}") for end in ("", "-wal", "-journal")]
    return any(log.is_file() and person.is_in_bytes(log.read_bytes()) for log in logs)


def _rows_to_rename(
    con: sqlite3.Connection, table: str, person: Person, name: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    with suppress(sqlite3.OperationalError):  # a table without row ids: none of Dagster's
        rows = con.execute(f'SELECT rowid, * FROM "{table}"')
        columns = [column[0] for column in rows.description]
        for rowid, *values in rows:
            renamed = {
                column: new
                for column, value in zip(columns[1:], values, strict=True)
                if (new := _renamed(value, person, name)) != value
            }
            if renamed:
                yield rowid, renamed


def _renamed(value: Any, person: Person, name: str) -> Any:
    if isinstance(value, str):
        return person.replaced(value, name)
    if isinstance(value, bytes):
        with suppress(zlib.error, UnicodeDecodeError):
            text = zlib.decompress(value).decode()
            renamed = person.replaced(text, name)
            return value if renamed == text else zlib.compress(renamed.encode())
        with suppress(UnicodeDecodeError):
            return person.replaced(value.decode(), name).encode()
    return value
