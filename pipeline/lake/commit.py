"""Commit: a day becomes a new version of itself, in all its tables at once or not at all.

Belongs here: filling a version's folder, and the rename that makes it current. docs/design.md,
"Commits, manifests and snapshots", says why no crash leaves a third state.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import get_args

import duckdb

from pipeline.lake import files
from pipeline.lake.files import ContractError, check_contract
from pipeline.lake.manifest import (
    FileEntry,
    Manifest,
    Reading,
    Source,
    Work,
    describe,
    intact,
    is_final,
    manifest_of,
    write_coverage,
    write_manifest,
    write_revisions,
)
from pipeline.lake.schemas import (
    DATASETS,
    ITEMS,
    LEDGER_DATASETS,
    METERS,
    OBSERVED,
    RECONCILIATION,
    REVISIONS,
    TOKENS,
    USAGE,
)
from pipeline.lake.store import (
    MANIFEST,
    Lake,
    flush_file,
    flush_folder,
    point,
    private_folder,
    remove,
    replacing,
)
from pipeline.timeline import day_window


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes different about a day.

    `files` are finished ones by dataset; `removed` are datasets whose file goes. `read_at` says
    when what is published was asked for (Unix seconds), also where it turned out to be what stands
    there. `disputed` says whether the day's usage has other totals than the API itself gives; None
    leaves that as it is. `owes` is to be done about the day from now on, `done` is done with this:
    computed from the version `based_on`, so if another one counts by now, it is to be done again.
    `readings` are all those of the day from now on; None leaves them as they are. `dropped` are all
    tables that the day does not keep from now on, and `files` of which are left out; None leaves
    that as it is.
    """

    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    removed: Collection[str] = ()
    read_at: Mapping[Source, float] = field(default_factory=dict[Source, float])
    disputed: bool | None = None
    owes: Collection[Work] = ()
    done: Collection[Work] = ()
    based_on: Path | None = None
    readings: Mapping[str, Reading] | None = None
    dropped: Collection[str] | None = None


def publish(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    day: date,
    staged: Mapping[str, Path],
    read_at: Mapping[Source, float] | None = None,
    *,
    disputed: bool | None = None,
) -> list[str]:
    """Publish finished files as the day's; returns the datasets among `staged` that changed.

    As `publish_days` with one `Change`.
    """
    change = Change(staged, read_at=read_at or {}, disputed=disputed)
    return publish_days(con, lake, {day: change})[day]


def publish_days(
    con: duckdb.DuckDBPyConnection, lake: Lake, changes: Mapping[date, Change]
) -> dict[date, list[str]]:
    """Publish all changes at one stroke; returns by day which datasets of its files changed.

    Every file is checked against the contract and flushed to disk before anything changes. Raises
    ContractError, or OSError when the disk fails, and leaves all days as they were. Where it fails
    once they count, at their links, the next commit or the end of the run makes these.

    Where usage or what was observed changes, a reconciliation is no longer of them: the day owes
    another one. A day whose items are dropped never owes to be observed or reconciled.
    """
    for change in changes.values():
        for name, path in change.files.items():
            check_contract(DATASETS[name], path)
    changed: dict[date, list[str]] = {}
    with _at_one_stroke(lake, changes) as new:
        for day, change in sorted(changes.items()):
            changed[day], version = _prepared(con, lake, day, change)
            if version is not None:
                new[day] = version
    return changed


def adopt(
    lake: Lake, folders: Mapping[date, Path], based_on: Mapping[date, Path] | None = None
) -> dict[date, Path]:
    """Let finished folders, each with all files of a version and its manifest, be the versions of
    their days, at one stroke; returns these versions.

    A day of `based_on` of which another version counts by now is left as it is. The folders are on
    the lake's disk. Raises ContractError or OSError, and leaves all days as they were.
    """
    with _at_one_stroke(lake, folders) as new:
        for day, folder in sorted(folders.items()):
            if based_on is not None and lake.version(day) != based_on[day]:
                continue
            if lake.version(day) is None:
                _refuse_unknown(lake, day)
            new[day] = _new_version(lake, day)
            folder.replace(new[day])
            flush_folder(new[day].parent)
    return new


@contextmanager
def _at_one_stroke(lake: Lake, days: Collection[date]) -> Iterator[dict[date, Path]]:
    """What is to have the new versions of days at the end of the block: from then on they count.

    Where anything fails, they are removed, and all days stay as they were.
    """
    with lake.lock("publish"):
        finish_commit(lake)
        _begin(lake, days)
        new: dict[date, Path] = {}
        try:
            yield new
            _commit(lake, new)
        except BaseException:
            for day, version in new.items():
                if lake.version(day) != version:
                    remove(version)
            raise
        finally:
            finish_commit(lake)


def _begin(lake: Lake, days: Collection[date]) -> None:
    """Note which days a commit may change, and which of them have a version that counts."""
    if days:
        had_one = {
            day.isoformat(): (lake.version(day) or _found_again(lake, day)) is not None
            for day in sorted(days)
        }
        _write_facts(lake, lake.changing, had_one)


def finish_commit(lake: Lake) -> None:
    """End a commit, or one whose process was killed; to be called with the lock `publish`.

    What it had committed counts and has its links. Of a day that got no first version nothing is
    left: what is whole there would be taken for a version whose link was lost.
    """
    committed, changing = lake.committed(), lake.days_changing()
    for day, name in committed.items():
        _make_current(lake, day, lake.versions(day) / name)
    for day in sorted({*committed, *changing}):
        if lake.version(day) is not None:
            _link(lake, day)
        elif not changing[day]:
            remove(lake.versions(day))
    lake.commit.unlink(missing_ok=True)
    lake.changing.unlink(missing_ok=True)


def _prepared(
    con: duckdb.DuckDBPyConnection, lake: Lake, day: date, change: Change
) -> tuple[list[str], Path | None]:
    """Which files are new or say something new, and the version that has them; None for none."""
    standing = lake.version(day)
    if standing is None:
        _refuse_unknown(lake, day)
    before = manifest_of(standing)
    dropped = {*(before.dropped if change.dropped is None else change.dropped)}
    kept = {name: path for name, path in change.files.items() if name not in dropped}
    change = replace(change, files=kept, removed={*change.removed, *dropped}, dropped=dropped)
    changed = [
        name
        for name in change.files
        if (old := intact(standing, before, name)) is None
        or not files.same(DATASETS[name], old, change.files[name])
    ]
    known = _known(lake, day, standing, before, change, changed)
    if not changed and before.files and known == before:
        return changed, None
    new = _new_version(lake, day)
    try:
        to_move = {name: change.files[name] for name in changed}
        _fill(con, lake, day, standing, before, to_move, change.removed, known, new)
    except BaseException:
        remove(new)
        raise
    return changed, new


def _known(
    lake: Lake,
    day: date,
    standing: Path | None,
    before: Manifest,
    change: Change,
    changed: Collection[str],
) -> Manifest:
    """What is known of a day with the change, its files aside."""
    # The last reading counts, also where an earlier one says that it was later: then it was made
    # while the clock was ahead. A reading of usage proves more than its totals did before.
    read_at = {**before.read_at, **change.read_at}
    if "usage" in change.read_at and "totals" not in change.read_at:
        read_at.pop("totals", None)
    known = replace(
        before,
        files={name: it for name, it in before.files.items() if name not in change.removed},
        read_at=read_at,
        disputed=before.disputed if change.disputed is None else change.disputed,
        dropped=tuple(sorted(change.dropped or ())),
    )
    owed: set[Work] = {*before.owed, *change.owes}
    if change.based_on is None or change.based_on == standing:
        owed -= set(change.done)
    if RECONCILIATION.name in before.files and (
        {dataset["1d"].name for dataset in (USAGE, OBSERVED, METERS, TOKENS)} & set(changed)
        or is_final(lake, day, before) != is_final(lake, day, known)
    ):
        owed.add("reconcile")
    if ITEMS.name in known.dropped:
        owed -= {"observe", "reconcile"}
    if change.readings is not None:
        known = replace(known, readings=dict(sorted(change.readings.items())))
    return replace(known, owed=tuple(work for work in get_args(Work) if work in owed))


def restore_links(lake: Lake) -> None:
    """Let days whose link was lost have it again."""
    with lake.lock("publish"):
        finish_commit(lake)
        for folder in (lake.root / ".versions").glob("????-??-??"):
            day = date.fromisoformat(folder.name)
            if lake.version(day) is None and _found_again(lake, day):
                _link(lake, day)


def withdraw_unbegun(lake: Lake, now: float) -> list[date]:
    """Remove days that begin after `now` (Unix seconds) and have no rows; returns them.

    They were loaded while a clock was ahead. Of a day that has not begun nothing is known, so it is
    to be missing, not empty. A day with rows stays: it may be `now` that is wrong.
    """
    withdrawn: list[date] = []
    for day in lake.all_days():
        if day_window(day).start <= now:
            continue
        with lake.day_lock(day), lake.lock("publish"):
            finish_commit(lake)
            record = manifest_of(lake.version(day))
            tables = {name: it for name, it in record.files.items() if name not in LEDGER_DATASETS}
            if any(it.rows for it in tables.values()):
                continue
            for name in DATASETS:
                remove(lake.path(name, day).parent)
            remove(lake.versions(day))
            lake.link(day).unlink(missing_ok=True)
        withdrawn.append(day)
    return withdrawn


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
            point(place, target(name, day))


def _found_again(lake: Lake, day: date) -> Path | None:
    """The last version that is whole, of a day whose link was lost: it counts again."""
    if not lake.versions(day).is_dir():
        return None
    for version in sorted(lake.versions(day).glob("[0-9]*"), reverse=True):
        if manifest_of(version).files:
            _make_current(lake, day, version)
            return version
    return None


def _refuse_unknown(lake: Lake, day: date) -> None:
    """Raise ContractError where files stand in the day's place that are of no version of it."""
    for name in DATASETS:
        path = lake.path(name, day)
        if path.is_file() and not path.is_symlink():
            raise ContractError(
                f"{path} is of no version of its day, so this mka1-usage did not write it: move "
                "it away, or set MKA1_USAGE_HOME to another folder"
            )


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
    before: Manifest,
    changed: Mapping[str, Path],
    removed: Collection[str],
    known: Manifest,
    new: Path,
) -> None:
    """Put everything that belongs to a version into its folder, and flush it.

    `known` is all that is to be recorded but its files, which are not yet those. A file that was
    lost stays recorded, so that it is missed, until another takes its place or it is `removed`.
    """
    records: dict[str, FileEntry] = {}
    for name, path in changed.items():
        path.rename(new / f"{name}.parquet")
    for name in DATASETS:
        if standing is None or name in {*changed, *removed, *LEDGER_DATASETS}:
            continue
        old = standing / f"{name}.parquet"
        if old.is_file():
            _same_file(old, new / old.name)
        if name in before.files:  # a file that was damaged since is not what it was
            records[name] = before.files[name]
    revisions = intact(standing, before, REVISIONS.name)
    if REVISIONS.name in known.dropped:
        pass
    elif USAGE["1m"].name not in changed and revisions is not None:
        _same_file(revisions, new / revisions.name)
    elif (new / f"{USAGE['1m'].name}.parquet").is_file():
        write_revisions(con, day, standing, before, known.read_at, new)
    write_coverage(lake, day, known, new)
    for name in DATASETS:
        path = new / f"{name}.parquet"
        if path.is_file() and name not in records:
            flush_file(path)
            records[name] = describe(DATASETS[name], path)
    write_manifest(new, replace(known, files=records))
    flush_file(new / MANIFEST)
    for folder in (new, new.parent):
        flush_folder(folder)


def _commit(lake: Lake, versions: Mapping[date, Path]) -> None:
    """Let versions of several days count from one moment on."""
    if len(versions) > 1:
        names = {day.isoformat(): version.name for day, version in versions.items()}
        _write_facts(lake, lake.commit, names)
    else:
        for day, version in versions.items():
            _make_current(lake, day, version)


def _write_facts(lake: Lake, path: Path, by_day: Mapping[str, object]) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(by_day, indent=1), encoding="utf-8")
    flush_folder(lake.root)


def _make_current(lake: Lake, day: date, version: Path) -> None:
    place = lake.link(day)
    private_folder(place.parent)
    if place.is_dir() and not place.is_symlink():  # of a lake that was copied without its links
        remove(place)
    point(place, Path("..", ".versions", day.isoformat(), version.name))
    flush_folder(place.parent)


def _same_file(path: Path, other: Path) -> None:
    """Give a file a second name."""
    try:
        os.link(path, other)
    except OSError:  # not every file system has hard links
        shutil.copy2(path, other)
