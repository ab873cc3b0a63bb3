"""Commands on a disk of their own: one that can only be read, or one that is nearly full.

Belongs here: a mount namespace, which ends with the process, and what is run in it.

    python -m tests.mounted read-only HOME < [["status"], …]
    python -m tests.mounted tmpfs FOLDER SIZE < [["run"], …]

It prints how each ended: exit code, stdout, stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.bounded import finished
from tests.fixtures_local import Ended, command

_ROOT = Path(__file__).parent.parent
_PATIENCE = 300.0
"""Seconds for all commands together, on a machine that does other things."""
_UNSHARE = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount")
ROOM = "make room"
"""In place of a command: the disk grows."""


def ended(how: Sequence[str], commands: Sequence[Sequence[str]]) -> list[Ended]:
    """Run commands there; skips the test where this machine lets nobody mount."""
    if reason := _refused():
        pytest.skip(f"no file system can be mounted here: {reason}")
    done = finished(
        [*_UNSHARE, sys.executable, "-m", __name__, *how],
        text=json.dumps(commands),
        cwd=_ROOT,
        seconds=_PATIENCE,
    )
    return [Ended(code, out.encode(), err) for code, out, err in json.loads(done.stdout)]


@cache
def _refused() -> str:
    """Why nothing can be mounted; empty where it can."""
    line = "mount -t tmpfs -o size=64k tmpfs /mnt && mount --bind /mnt /mnt"
    try:
        asked = finished([*_UNSHARE, "sh", "-c", line], check=False)
    except OSError as error:
        return str(error)
    return "" if asked.returncode == 0 else asked.stderr.strip() or "refused"


def _mount(*args: str) -> None:
    finished(["mount", *args])


def _main(how: str, folder: str, size: str = "") -> None:
    if how == "read-only":
        _mount("--bind", folder, folder)
        _mount("-o", "remount,ro,bind", folder)
    else:
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    results: list[tuple[int, str, str]] = []
    for args in json.load(sys.stdin):
        if args == [ROOM]:
            _mount("-o", "remount,size=64m", folder)
        else:
            one = command(args)
            results.append((one.code, one.out.decode(errors="replace"), one.err))
    print(json.dumps(results))


if __name__ == "__main__":
    _main(*sys.argv[1:])
