"""A process that is killed at a step of its own on the disk.

A moment is a number of steps, not a time: so the moments are spread over all of the work on any
machine, and one that showed a fault shows it again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final

CHANGES: Final = {
    *("os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"),
    *("shutil.rmtree", "sqlite3.connect"),
}
"""Audit events of changes on the disk, but for files that are opened to be written."""


def count_steps(last: int | None, *, reads: bool = False) -> Callable[[], int]:
    """Count what this process changes on the disk from now on, and kill it before step `last`.

    `reads` counts files too that are opened to be read. Returns what tells the steps so far. A file
    that is opened to be written is two steps: before the second it is there, and empty.
    """
    steps = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        opens = event == "open" and isinstance(arguments[0], str | bytes)
        writes = opens and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event in CHANGES or (opens and reads):
            for is_there in (False, True) if writes else (False,):
                steps += 1
                if steps == last:
                    with suppress(OSError):  # it is there, and must not be
                        if is_there:
                            os.close(os.open(arguments[0], arguments[2], 0o600))
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    return lambda: steps


def moments(number: int, steps: int, random: Random) -> list[int]:
    """So many steps, one at random from each of as many equal parts of all steps."""
    return [1 + int(steps * (part + random.random()) / number) for part in range(number)]
