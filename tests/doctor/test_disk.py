"""What the home folder's disk lacks is known before a run finds out."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.doctor import disk
from pipeline.lake.store import Lake
from tests.doctor.conftest import Look, told


def free(place: pytest.MonkeyPatch, size: float) -> None:
    """Let the disk have so many bytes left."""
    usage = shutil.disk_usage("/")
    place.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(size)))


ROOM = [(5e12, "ok"), (2e9, "ok"), (0.9e9, "warning"), (0.1e9, "failed"), (0, "failed")]


@pytest.mark.parametrize(("size", "state"), ROOM)
def test_a_disk_that_runs_full_is_told_before_it_is(
    size: float, state: str, place: pytest.MonkeyPatch, look: Look, home: Path
) -> None:
    free(place, size)
    found = look("home")
    assert [one.state for one in found] == [state]
    assert str(home) in found[0].found
    assert bool(found[0].fix) is (state != "ok")


def test_how_long_it_lasts_follows_from_what_a_day_takes(
    place: pytest.MonkeyPatch, look: Look, home: Path
) -> None:
    lake = Lake(home / "lake")
    files = [path for day in lake.all_days() for path in lake.link(day).glob("*.parquet")]
    a_day = sum(path.stat().st_size for path in files) / 3
    place.setattr(disk, "_WARN_BELOW", 0)
    place.setattr(disk, "_FAIL_BELOW", 0)
    for days, state in ((29, "warning"), (31, "ok"), (400, "ok")):
        free(place, a_day * days + 1)
        (found,) = look("home")
        assert f"enough for {days} days" in found.found
        assert found.state == state


def test_a_home_that_is_yet_to_be_made_is_no_failure(look: Look, tmp_path: Path) -> None:
    found = look("home", "file system", "permissions")
    assert [one.state for one in found] == ["ok", "skipped", "skipped"]
    assert "is yet to be made" in found[0].found
    assert not (tmp_path / "home").exists()


def test_a_home_that_cannot_be_is_named(look: Look, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    found = look("home", "file system")
    assert [one.state for one in found] == ["failed", "skipped"]
    assert found[0].found == f"{tmp_path}/home is no folder"
    assert "MKA1_USAGE_HOME" in found[0].fix


def test_a_home_that_is_not_ours_to_write_to_is_named(
    look: Look, place: pytest.MonkeyPatch, home: Path
) -> None:
    place.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert "can't be written to" in told(look("home"))


def test_the_trial_leaves_nothing_behind(look: Look, home: Path) -> None:
    before = sorted(path for path in home.rglob("*"))
    assert [one.state for one in look("file system")] == ["ok"]
    assert sorted(path for path in home.rglob("*")) == before


def refused(*_: object, **__: object) -> None:
    raise OSError(95, "Operation not supported")


def always(self: FileLock, *_: object, **__: object) -> None:
    """A lock that everybody gets."""


def renamed(self: Path, target: Path) -> None:
    """A rename that leaves what was there."""
    self.unlink()


LACKING: list[tuple[type, str, Callable[..., None], str]] = [
    (Path, "hardlink_to", refused, "no hard links"),
    (Path, "symlink_to", refused, "no symbolic links"),
    (Path, "replace", renamed, "no atomic rename, no symbolic links"),
    (FileLock, "acquire", always, "no locks"),
    (Path, "chmod", refused, "no modes"),
]


@pytest.mark.parametrize(("owner", "method", "instead", "words"), LACKING)
def test_a_file_system_that_lacks_what_the_lake_needs_is_told_so(
    owner: type,
    method: str,
    instead: Callable[..., None],
    words: str,
    look: Look,
    place: pytest.MonkeyPatch,
    home: Path,
) -> None:
    with place.context() as lacking:
        lacking.setattr(owner, method, instead)
        found = look("file system")
    assert [one.state for one in found] == ["failed"]
    assert found[0].found == f"that of {home} has {words}"
    assert list(home.glob(".doctor-*")) == []


def test_a_file_system_that_cannot_flush_a_folder_is_warned_of(
    look: Look, place: pytest.MonkeyPatch, home: Path
) -> None:
    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")

    place.setattr(os, "fsync", fsync)
    (found,) = look("file system")
    assert found.state == "warning"
    assert "a loss of power may take back what was published last" in found.found
    assert "mka1-usage verify" in found.fix


def test_what_others_can_read_is_named_with_what_closes_it(look: Look, home: Path) -> None:
    assert [one.state for one in look("permissions")] == ["ok"]
    (home / "usage.duckdb").chmod(0o644)
    found = look("permissions")
    assert [one.state for one in found] == ["warning"]
    assert found[0].fix.startswith(f"chmod -R go= {home}/usage.duckdb")


@pytest.mark.parametrize(("me", "state"), [(4_242, "failed"), (0, "warning")])
def test_a_home_of_another_user_is_named(
    me: int, state: str, look: Look, place: pytest.MonkeyPatch, home: Path
) -> None:
    owner = (home / "lake").stat().st_uid
    if owner == me:
        os.chown(home / "lake", 4_243, -1)
    place.setattr(os, "geteuid", lambda: me)
    found = look("permissions")
    assert found[0].state == state
    assert f"and this runs as {me}" in found[0].found
