"""Is there room, does the file system do what the lake relies on, and who may read it?"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from pipeline.doctor.finding import CheckContext, Finding, failed, ok, skipped, warning
from pipeline.lake.manifest import manifest_of
from pipeline.lake.store import Lake, flush_folder
from pipeline.messages import count

_MB: Final = 1_000_000
_FAIL_BELOW: Final = 256 * _MB
_WARN_BELOW: Final = 1_000 * _MB
_FEW_DAYS: Final = 30
_FEW_FILES: Final = 10_000
_RECENT: Final = 30
"""Days of the lake that its growth is computed from."""


def room(context: CheckContext) -> Iterator[Finding]:
    """Whether the home folder is or can be made, and how long its disk lasts."""
    home = context.settings.home
    standing = next(folder for folder in (home, *home.parents) if folder.exists())
    fix = "set MKA1_USAGE_HOME to a folder of yours, or fix its owner and mode"
    if not standing.is_dir():
        yield failed(f"{standing} is no folder", fix)
        return
    if not os.access(standing, os.W_OK | os.X_OK):
        yield failed(f"{standing} can't be written to, so no run can load", fix)
        return
    free = shutil.disk_usage(standing).free
    growth = _growth(Lake(context.settings.lake))
    words = f"{home}, {_size(free)} free"
    if home != standing:
        words = f"{home} is yet to be made, by the first run; {_size(free)} free"
    days = None
    if growth:
        days = int(free / growth)
        words += f", {_size(growth)} a day: enough for {_days(days)}"
    state = _state(free, days)
    room_for = "make room, or move the home folder to a larger disk"
    yield Finding(state, "home", words, room_for if state != "ok" else "")
    left = os.statvfs(standing)
    if left.f_files and left.f_favail < _FEW_FILES:
        yield warning(f"room for {count(left.f_favail, 'more file')} (inodes)", room_for)


def _state(free: int, days: int | None) -> Literal["ok", "warning", "failed"]:
    if free < _FAIL_BELOW:
        return "failed"
    return "warning" if free < _WARN_BELOW or (days is not None and days < _FEW_DAYS) else "ok"


def _growth(lake: Lake) -> float:
    """Bytes that a day takes, on average of the last that are loaded; 0 where none is."""
    sizes = [
        sum(file.bytes for file in manifest_of(lake.version(day)).files.values())
        for day in lake.all_days()[-_RECENT:]
    ]
    return sum(sizes) / len(sizes) if sizes else 0.0


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1_000:
            return f"{size:,.0f} {unit}"
        size /= 1_000
    return f"{size:,.1f} TB"


def _days(days: int) -> str:
    return count(days, "day") if days < 3_650 else "more than ten years"


def trial(context: CheckContext) -> Iterator[Finding]:
    """Do with small files what publishing a day does, in a folder that is removed again."""
    home = context.settings.home
    if not home.is_dir():
        yield skipped("nothing to try it in, until the first run")
        return
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=home))
    try:
        lacking = [what for what, works in _TRIALS.items() if not _works(works, folder)]
        durable = _works(flush_folder, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if lacking:
        yield failed(
            f"that of {home} has no {', no '.join(lacking)}",
            "set MKA1_USAGE_HOME to a folder on a local disk or a POSIX file system (ext4, XFS, "
            "NFS 4)",
        )
    elif not durable:
        yield warning(
            f"that of {home} can't flush folders: a loss of power may take back what was published "
            "last",
            "after a loss of power, run `mka1-usage verify`; or set MKA1_USAGE_HOME to a folder on "
            "a local disk",
        )
    else:
        yield ok(f"{', '.join(_TRIALS)}, flushing: all work")


def _works(trial: Callable[[Path], bool], folder: Path) -> bool:
    with suppress(OSError):
        return trial(folder)
    return False


def _rename(folder: Path) -> bool:
    """A file that was written aside takes the place of the one that stands there."""
    aside, place = folder / "aside", folder / "place"
    place.write_text("before")
    with aside.open("w") as file:
        file.write("after")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(place)
    return place.read_text() == "after"


def _symbolic_link(folder: Path) -> bool:
    """A link is replaced by one rename, as the link of a day is."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    link, aside = folder / "link", folder / "link.new"
    link.symlink_to("one")
    aside.symlink_to("two")
    aside.replace(link)
    return link.readlink() == Path("two")


def _hard_link(folder: Path) -> bool:
    (folder / "file").write_text("shared")
    (folder / "same").hardlink_to(folder / "file")
    return (folder / "same").samefile(folder / "file")


def _lock(folder: Path) -> bool:
    """Who comes second does not get the lock."""
    first, second = (FileLock(folder / "lock", is_singleton=False) for _ in range(2))
    with first:
        try:
            second.acquire(timeout=0)
        except Timeout:
            return True
        second.release()
    return False


def _mode(folder: Path) -> bool:
    (folder / "private").touch(mode=0o600)
    (folder / "private").chmod(0o600)
    return stat.S_IMODE((folder / "private").stat().st_mode) == 0o600


_TRIALS: Final[dict[str, Callable[[Path], bool]]] = {
    "atomic rename": _rename,
    "symbolic links": _symbolic_link,
    "hard links": _hard_link,
    "locks": _lock,
    "modes": _mode,
}


def permissions(context: CheckContext) -> Iterator[Finding]:
    """Whether what is written is its owner's alone, and the owner is who runs this."""
    settings = context.settings
    within = [settings.lake, settings.catalog]
    if settings.dagster_home.is_relative_to(settings.home):
        within.append(settings.dagster_home)
    there = [path for path in within if path.exists()]
    if not there:
        yield skipped("nothing is written yet")
        return
    found = list(_permissions(there))
    yield from found
    if not found:
        names = ", ".join(path.name for path in there)
        yield ok(f"{names}: readable by their owner only")


def _permissions(there: list[Path]) -> Iterator[Finding]:
    me = os.geteuid()
    others = [path for path in there if path.stat().st_uid != me]
    if others:
        owner = others[0].stat().st_uid
        yield Finding(
            "warning" if me == 0 else "failed",
            "permissions",
            f"{others[0]} belongs to the user of id {owner}, and this runs as {me}",
            f"run as the user of id {owner}, or give it all to one user: chown -R",
        )
    for path in there:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield warning(
                f"{path} can be read by others on this machine (mode {mode:04o})",
                f"chmod -R go= {shlex.quote(str(path))}; start Dagster's processes with umask 077",
            )
