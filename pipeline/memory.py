"""How much memory queries may use: a part of what the machine, or the container, has.

Belongs here: reading the limits of Linux's control groups and the size of physical memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

MOST: Final = 1_500_000_000
"""Bytes that queries of a process use by default on a machine that has plenty. Beside queries, a
process needs up to 1 GB for pages, Arrow's tables and Python."""
LEAST: Final = 128_000_000
"""Bytes below which DuckDB, with a single thread, can't work on tables that outgrow its memory."""
PER_THREAD: Final = 125_000_000
"""Bytes that DuckDB asks to be counted for each of its threads."""

_UNKNOWN: Final = 4_000_000_000


@cache
def default_memory() -> int:
    """Bytes that the queries of a process may use where nothing else is set."""
    return max(LEAST, min(available() // 2, MOST))


def available(root: Path = Path("/")) -> int:
    """Bytes of memory that this process can have: the least of all limits that hold for it.

    These are those of its control group and of every group above it (in Linux's version 2 and 1),
    and the size of physical memory. `root` is where the system's files stand.
    """
    limits = [*_of_groups(root)]
    with suppress(AttributeError, ValueError, OSError):  # not every system tells
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=_UNKNOWN)


def _of_groups(root: Path) -> Iterator[int]:
    """The limits of the process's control groups; version 1 says "none" by a huge number."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, _, controllers_and_path = line.partition(":")
        controllers, _, group = controllers_and_path.partition(":")
        if number == "0":
            mount, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        place = Path(group.strip("/"))
        # A container sees its own group as the root, under a path that may be the host's.
        for above in (place, *place.parents):
            with suppress(OSError, ValueError):  # "max" is no limit
                yield int((mount / above / name).read_text(encoding="utf-8"))
