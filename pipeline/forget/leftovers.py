"""What is no table: pages that are being read, exports, reports, Dagster's records, logs.

Belongs here: what of it is removed, since a run makes it anew, and what is written anew. What
people have written themselves is left to them: the search names it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from datetime import date
from pathlib import Path
from typing import Any, Final

import yaml
from filelock import FileLock

from pipeline.conversations import cursors
from pipeline.forget import search
from pipeline.forget.person import Person
from pipeline.forget.values import renamed
from pipeline.lake.store import Lake, remove, replacing

_WAIT: Final = 60.0
"""Seconds to wait for Dagster, where it holds its database."""
_EXPORT: Final = "export.json"
_EXPORTED: Final = "mka1_usage_export"
_EXPORTING: Final = (".mka1-usage-lock", ".mka1-usage-staging")
"""Of the folder of an export, as `pipeline/export/folder.py` has them: its manifest, the lock that
is held by an export under way, and what is not in place yet."""
_NOTED: Final = {".json", ".log", ".db", ".sqlite"}
"""Endings of files that commands write; those that people write, such as CSV, are left alone."""
_TIMES: Final = 20
"""How often a table is gone through that Dagster changes all the time."""
_STORAGES: Final = {
    *("storage", "run_storage", "event_log_storage", "schedule_storage"),
    "local_artifact_storage",
}
MESSAGES: Final = "messages"
"""The folder of messages in a home."""
_LOCK: Final = ".lock"
"""Of the folder of messages: as `pipeline/notify/outbox.py` has it."""


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
    """Remove the report, which can show the person by a name too, and exports that name them: what
    others put into the folder of an export is left alone. Returns what was removed.

    Waits for exports that are under way.
    """
    removed: list[Path] = []
    report = home / "report"
    if report.is_dir():
        for path in list(report.iterdir()):  # the folder itself may be elsewhere
            _remove(path)
        removed.append(report)
    lock, staging = _EXPORTING
    for folder in {export_dir, *(path.parent for path in home.glob(f"*/{_EXPORT}"))}:
        with FileLock(folder / lock) if (folder / lock).exists() else nullcontext():
            files = [path for name in _exported(folder) if (path := folder / name).is_file()]
            killed = search.files_below([folder / staging])
            if any(_may_name(path, person) for path in (*files, *killed)):
                for path in (*files, folder / _EXPORT, folder / staging):
                    _remove(path)
                removed.append(folder)
    return sorted(removed)


def _exported(folder: Path) -> list[str]:
    """The files of a folder that exports wrote, as their manifest names them."""
    try:
        manifest = json.loads((folder / _EXPORT).read_bytes())
        names = [*manifest["files"], *manifest.get("kept", {})] if _EXPORTED in manifest else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [name for name in names if not {"", "..", "/"} & {*Path(name).parts}]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _may_name(path: Path, person: Person) -> bool:
    try:
        return search.names(path, person)
    except Exception:  # noqa: BLE001 - what can't be read of an export is no use to anybody
        return True


def forget_records(
    lake: Lake, home: Path, records: Sequence[Path], person: Person, name: str
) -> list[Path]:
    """Let Dagster's databases and logs below `records`, and what commands note in the home, speak
    of the person by another name; returns which did not.

    Waits for whoever sends messages. OSError, sqlite3.Error where one can't be written.
    """
    apart = (lake.root, *(folder.absolute() for folder in records))
    notes = (
        path
        for path in search.files_below([home, home / MESSAGES])  # which can be a link
        if path.suffix.partition("-")[0] in _NOTED  # `.state.json-4x1`, of a killed process, too
        and not any(path.absolute().is_relative_to(it) for it in apart)
    )
    with _messages_held(home):
        every = [*search.files_below(records), *notes]
        return [path for path in every if _rewrite(path, person, name)]


def keeps_records_elsewhere(dagster_home: Path) -> bool:
    """Whether dagster.yaml says where records are, which else are below its folder; so it is to be
    asked, also where it can't be read."""
    try:
        said = yaml.safe_load((dagster_home / "dagster.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, yaml.YAMLError):
        return True
    return isinstance(said, dict) and not _STORAGES.isdisjoint(said)


def _messages_held(home: Path) -> AbstractContextManager[object]:
    """Nobody sends messages meanwhile, who would write down again what was read before."""
    folder = home / MESSAGES
    return FileLock(folder / _LOCK) if folder.is_dir() else nullcontext()


def _rewrite(path: Path, person: Person, name: str) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        return False
    if head.startswith(b"SQLite format 3"):
        return _rewrite_database(path, person, name)
    return b"\0" not in head and path.name != _LOCK and _rewrite_text(path, person, name)


def _rewrite_text(path: Path, person: Person, name: str) -> bool:
    try:
        text = path.read_bytes().decode()
    except (UnicodeDecodeError, FileNotFoundError):
        return False
    after = person.replaced(text, name)
    if after == text:
        return False
    with replacing(path) as aside:
        aside.write_text(after, encoding="utf-8", newline="")
    return True


def _rewrite_database(path: Path, person: Person, name: str) -> bool:
    try:
        return _rewrite_tables(path, person, name)
    except sqlite3.OperationalError as error:
        raise sqlite3.OperationalError(f"{path}: {error}") from None
    except sqlite3.DatabaseError:  # damaged, or none: the search says that it can't be read
        return False


def _rewrite_tables(path: Path, person: Person, name: str) -> bool:
    with closing(sqlite3.connect(path, timeout=_WAIT)) as con:
        con.execute("PRAGMA secure_delete = ON")
        tables = con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        changed = sum(_rename_rows(con, table, person, name) for (table,) in tables)
        # What was removed may stand in free pages, or in the log that is not yet in the file.
        if changed or _bytes_name(path, person):
            con.execute("VACUUM")
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return changed > 0


def _bytes_name(path: Path, person: Person) -> bool:
    logs = [path.with_name(f"{path.name}{end}") for end in ("", "-wal", "-journal")]
    return any(log.is_file() and person.is_in_bytes(log.read_bytes()) for log in logs)


def _rename_rows(con: sqlite3.Connection, table: str, person: Person, name: str) -> int:
    """How many rows were changed. A row that Dagster changes meanwhile is looked at again."""
    changed = 0
    for _ in range(_TIMES):
        rows = list(_rows_to_rename(con, table, person, name))
        for rowid, changes in rows:
            sets = ", ".join(f'"{column}" = ?' for column in changes)
            same = " AND ".join(f'"{column}" IS ?' for column in changes)
            done = con.execute(
                f'UPDATE "{table}" SET {sets} WHERE rowid = ? AND {same}',
                [
                    *(after for _, after in changes.values()),
                    rowid,
                    *(before for before, _ in changes.values()),
                ],
            )
            changed += done.rowcount
        con.commit()
        if not rows:
            break
    return changed


def _rows_to_rename(
    con: sqlite3.Connection, table: str, person: Person, name: str
) -> Iterator[tuple[int, dict[str, tuple[Any, Any]]]]:
    """The numbers of rows, and each of their values that is to be another: before and after."""
    with suppress(sqlite3.OperationalError):  # a table without row ids: none of Dagster's
        rows = con.execute(f'SELECT rowid, * FROM "{table}"')
        columns = [column[0] for column in rows.description]
        for rowid, *values in rows:
            changes = {
                column: (value, after)
                for column, value in zip(columns[1:], values, strict=True)
                if (after := renamed(value, person, name)) is not None
            }
            if changes:
                yield rowid, changes
