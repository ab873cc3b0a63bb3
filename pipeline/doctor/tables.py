"""Is the lake whole, of the kind that the settings say, up to date, and can it be queried?"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
from filelock import FileLock, Timeout

from pipeline.doctor.finding import CheckContext, Finding, failed, ok, skipped, warning
from pipeline.lake import forgotten, user_id_mode
from pipeline.lake.catalog import difference, shows_another_lake
from pipeline.lake.engine import openable
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from pipeline.messages import count
from pipeline.query.status import STATES, states, what_to_run
from pipeline.settings import without_secrets
from pipeline.timeline import iso

_SAMPLE: Final = 8
"""Days that are read again at most, unless all are to be."""
_SAMPLE_BYTES: Final = 100_000_000
"""And how much they have together: that is read in a second or two."""
_LONG: Final = 6 * 3_600.0
"""Seconds. A run that holds a lock longer may hang."""
_EMPTY: Final = skipped("nothing is loaded yet: `mka1-usage run` loads")


def lake(context: CheckContext) -> Iterator[Finding]:
    """Whether ids are of the kind that is set, and files what was published."""
    settings = context.settings
    held = Lake(settings.lake, memory=settings.memory)
    pseudonyms = settings.pseudonyms
    try:
        user_id_mode.check(held, pseudonyms.fingerprint if pseudonyms else None)
    except user_id_mode.UserIdModeError as error:
        found, _, fix = str(error).rpartition(": ")
        yield failed(found, fix)
    yield from _forgetting(held)
    days = held.all_days()
    if not days:
        yield _EMPTY
        return
    sample = days if context.deep else list(_within_size(held, _spread(days)))
    verified = verify(held, settings.catalog, None if context.deep else sample)
    wrong: Sequence[object] = [it for it in verified.problems if it.path != settings.catalog]
    wrong = wrong or Snapshot(held).damage  # a cheap look at the days that a sample passes over
    if wrong:
        more = f", and {len(wrong) - 1:,} more" if wrong[1:] else ""
        yield failed(
            f"{wrong[0]}{more}", "`mka1-usage verify` names everything and says what to run"
        )
        return
    whose = "with user ids as they are" if pseudonyms is None else "with pseudonyms"
    read = (
        f"{len(sample):,} of {count(len(days), 'day')} read again, as published; --deep reads all"
    )
    if len(sample) == len(days):
        read = f"all {count(len(days), 'day')} read again, as published"
    elif not sample:
        read = "sizes and footers as published; days are large, so only --deep reads them again"
    yield ok(f"{whose}; {read}")


def _spread(days: Sequence[date]) -> list[date]:
    """Some of the days, the first and the last among them."""
    if len(days) <= _SAMPLE:
        return list(days)
    places = {round(step * (len(days) - 1) / (_SAMPLE - 1)) for step in range(_SAMPLE)}
    return [days[place] for place in sorted(places)]


def _forgetting(held: Lake) -> Iterator[Finding]:
    """Whether it is known who was forgotten, and whether that came to its end."""
    try:
        begun = len(forgotten.forgotten(held).unfinished)
    except user_id_mode.UserIdModeError as error:
        found, _, fix = str(error).rpartition(": ")
        yield failed(found, fix)
        return
    if begun:
        yield warning(
            f"to forget {count(begun, 'user')} was begun and not finished, so they may still be "
            "named somewhere",
            "run `mka1-usage forget USER` again for each, to its end",
        )


def _within_size(held: Lake, days: Sequence[date]) -> Iterator[date]:
    """Those of the days whose files have no more than _SAMPLE_BYTES, all together."""
    room = _SAMPLE_BYTES
    for day in days:
        version = held.version(day)
        size = sum(path.stat().st_size for path in version.glob("*.parquet")) if version else 0
        if size <= room:
            room -= size
            yield day


def days(context: CheckContext) -> Iterator[Finding]:
    """How many days are final, provisional, stale and missing."""
    held = Lake(context.settings.lake, context.settings.lookback_days, context.settings.memory)
    if not held.all_days():
        yield _EMPTY
        return
    found = states(Snapshot(held), None, None, context.now())
    counted = Counter(found.states.values())
    words = ", ".join(f"{counted[state]:,} {state}" for state in STATES if counted[state])
    if found.complete_through is not None:
        words += f"; complete through {iso(found.complete_through)}"
    if found.damage:
        words += f"; damaged: {count(len(found.damage), 'file')}"
    commands = [line.strip() for line in what_to_run(found.states)[1:]]
    if commands:
        more = " (`mka1-usage status` has more)" if commands[1:] else ""
        yield warning(words, commands[0] + more)
    else:
        yield ok(words)


def runs(context: CheckContext) -> Iterator[Finding]:
    """Who holds the locks of days. One whose holder has died is free: the kernel lets go of it."""
    held = {
        path.stem: _holder(path, context.now())
        for path in sorted((context.settings.lake / ".locks").glob("*.lock"))
        if path.stem.startswith("day-") and _is_held(path)
    }
    left = len(list((context.settings.lake / ".partial").glob("????-??-??")))
    if not held:
        resumed = f"; begun: {count(left, 'day')}, which the next run goes on with" if left else ""
        yield ok(f"nobody is loading{resumed}")
    for lock, (process, seconds) in held.items():
        day = lock.removeprefix("day-")
        by = f"process {process}" if process else "another process"
        if process and seconds > _LONG:
            yield warning(
                f"{day} is being loaded by {by}, which began "
                f"{count(round(seconds / 3_600), 'hour')} ago",
                f"if it hangs, end it (kill {process}): nothing is lost, and the lock is free",
            )
        else:
            yield ok(f"{day} is being loaded by {by}")


def _is_held(path: Path) -> bool:
    lock = FileLock(path, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # it can only be read from here
        return _holder(path, 0.0)[0] is not None
    lock.release()
    return False


def _holder(path: Path, now: float) -> tuple[int | None, float]:
    """The process that holds a lock and how many seconds it has lived, where the kernel says so."""
    try:
        inode = path.stat().st_ino
        table = Path("/proc/locks").read_text(encoding="ascii")
        found = re.search(rf"^\d+: FLOCK +\S+ +WRITE (\d+) \S+:{inode} ", table, re.MULTILINE)
        if found is None:
            return None, 0.0
        began = Path(f"/proc/{found[1]}").stat().st_mtime
    except OSError:
        return None, 0.0
    return int(found[1]), now - began


_OTHER: Final = "take the one that is installed beside mka1-usage"
OPENS: Final = "SELECT count(*), min(start_time), max(start_time) FROM usage_1d"
"""What is asked of the catalog to see that it opens."""


def catalog(context: CheckContext) -> Iterator[Finding]:
    """Whether `usage.duckdb` opens, and shows this lake and no other."""
    settings, held = context.settings, Lake(context.settings.lake)
    if not held.all_days():
        yield _EMPTY
        return
    again = "any run builds it anew: `mka1-usage run`"
    if not settings.catalog.is_file():
        yield failed(f"{settings.catalog} is not there", again)
        return
    changed = difference(held, settings.catalog)
    if changed is not None:
        yield failed(
            f"{settings.catalog} is not as it was published: {changed}",
            f"{again}; what was put into it is kept in a folder beside it",
        )
        return
    try:
        with (
            openable(settings.catalog) as readable,
            closing(duckdb.connect(str(readable), read_only=True)) as con,
        ):
            if shows_another_lake(con, held):
                yield failed(
                    f"{settings.catalog} shows another lake than {settings.lake}: was it moved?",
                    again,
                )
                return
            rows = (con.execute(OPENS).fetchone() or (0,))[0]
    except duckdb.Error as error:
        yield failed(f"{settings.catalog} can't be queried ({str(error).splitlines()[0]})", again)
        return
    yield ok(f"{settings.catalog} opens: {count(rows, 'row')} in usage_1d")


def command_line(context: CheckContext) -> Iterator[Finding]:
    """Whether the `duckdb` that one would type opens the catalog."""
    if not context.settings.catalog.is_file():
        yield skipped("there is no catalog to open")
        return
    found = shutil.which("duckdb", path=context.environment.get("PATH", os.defpath))
    if found is None:
        yield skipped("there is no `duckdb` on the path; none is needed")
        return
    try:
        code, said = asyncio.run(_run(context, found))
    except OSError as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        yield warning(f"{found} does not run ({why})", _OTHER)
        return
    lines = said.decode(errors="replace").split("\n")
    if code:
        yield warning(f"{found} can't open the catalog ({lines[0]})", _OTHER)
    else:
        yield ok(f"{found} ({lines[0].strip()}) opens the catalog")


async def _run(context: CheckContext, command: str) -> tuple[int | None, bytes]:
    """Exit code of a command that asks the catalog, and what it said; its process is gone then."""
    asks = ("-init", os.devnull, "-readonly", "-csv", "-noheader", str(context.settings.catalog))
    process = await asyncio.create_subprocess_exec(
        *(command, *asks, "-c", f"SELECT version(); {OPENS}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=without_secrets(context.environment),
    )
    try:
        async with asyncio.timeout(context.patience):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, err.strip() if process.returncode else out.strip()
